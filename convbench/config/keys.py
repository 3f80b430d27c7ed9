"""The keys of all configurations: types of the keys that no constructor takes, and limits on the values of all keys."""

from convbench.config.kinds import Limits

_TRAINING_KEYS = {
    "seed": "int",
    "epochs": "int",
    "batch_size": "int",
    "label_smoothing": "float",
    "datasets": "str",
    "resume": "str | None",
    "engine.device": "str",
    "engine.autocast": "str",
    "engine.channels_last": "bool",
    "engine.compile": "bool | str",
    "engine.cuda_graph": "bool",
    "engine.images": "str",
    "engine.accumulate": "int",
    "engine.shards": "int",
    "engine.deterministic": "bool",
    "engine.threads": "int | None",
    "engine.log_every": "int",
    "engine.cache": "str",
    "engine.watch": "bool",
    "sweep.name": "str | None",
    "sweep.retry_failed": "bool",
    "sweep.fail_fast": "bool",
    "sweep.report": "bool",
}
# For each command, the keys that no constructor takes, with their types.
KEYS: dict[str, dict[str, str]] = {
    "train": _TRAINING_KEYS,
    "describe": _TRAINING_KEYS,
    "bench": _TRAINING_KEYS
    | {
        "suite": "str",
        "layers.convs": "Sequence[str] | None",
        "layers.networks": "Sequence[str]",
        "layers.batch_size": "int",
        "layers.precisions": "Sequence[str]",
        "layers.formats": "Sequence[str]",
        "layers.rounds": "int",
        "loop.rounds": "int",
        "loop.steps": "int",
        "loop.rungs": "str",
        "output": "str",
    },
    "doctor": {"seed": "int"},
    "evaluate": {
        "run": "str",
        "checkpoint": "str",
        "split": "str",
        "images": "str | None",
        "columns": "Sequence[str]",
        "strip_suffix": "bool",
        "data.root": "str | None",
        "datasets": "str | None",
        "engine.device": "str",
    },
    "compare": {
        "folders": "Sequence[str]",
        "by": "str | Sequence[str] | None",
        "reference": "str",
        "difference": "float",
        "target_accuracy": "float | None",
        "test": "str",
        "output": "str | None",
    },
    "apply_kernel": {
        "image": "str",
        "kernel": "str | Sequence[Sequence[float]]",
        "implementation": "str",
        "padding_mode": "str",
        "output": "str | None",
        "side_by_side": "bool",
    },
}
# For each command, the groups that describe a call of a constructor.
CONSTRUCTED_GROUPS: dict[str, tuple[str, ...]] = {
    command: ("data", "conv", "model", "augment", "optimizer", "schedule", "temperature")
    for command in ("train", "describe", "bench")
} | {"doctor": ("conv",)}
# The commands whose configuration has the group `logger`.
LOGGED = ("train", "describe", "bench")
# Keys that a group has in addition to the arguments of its constructor, or with another type than these. An argument
# that is null in the yaml file is filled in from the data or from the layer that is replaced.
EXTRA_KEYS: dict[str, dict[str, str]] = {
    "conv": {"skip": "Sequence[str]", "unsupported": "str", "bias": "bool | None", "groups": "int | None"},
    "model": {
        "match": "str | None",
        "match_to": "str",
        "image_size": "int | None",
        "in_channels": "int | None",
        "num_classes": "int | None",
    },
    "optimizer": {"_partial_": "bool", "lr": "float", "weight_decay": "float"},
}
REQUIRED = {"conv": ("skip", "unsupported"), "model": ("match", "match_to"), "optimizer": ("_partial_", "lr")}
# The arguments of constructors that the program fills in; a configuration must not give them.
FILLED_IN: dict[str, frozenset[str]] = {
    "conv": frozenset(
        {
            *("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "padding_mode"),
            *("device", "dtype"),
        }
    ),
    "optimizer": frozenset({"params"}),
}
# Packages whose annotations are used to check values; the user's own classes check their values themselves.
TYPED = ("convbench.", "torch.optim.")


def at_least(low: float, high: float = float("inf")) -> Limits:
    """Limits for numbers from `low` to `high`, both included."""
    return Limits(low=low, high=high)


def above(low: float, high: float = float("inf")) -> Limits:
    """Limits for numbers above `low`, up to and including `high`."""
    return Limits(low=low, high=high, low_open=True)


def one_of(*choices: object) -> Limits:
    """Limits that allow only these values."""
    return Limits(choices=choices)


_OPEN_FRACTION = Limits(0, 1, low_open=True, high_open=True)
_PROBABILITY = Limits(0, 1, high_open=True)
_SEED = at_least(0, 2**63 - 1)
_DEVICE = one_of("auto", "cpu", "cuda", "mps")
# Upper bounds that only exclude values for which building the network or the data would never end.
_MAX_DEPTH, _MAX_WIDTH, _MAX_SIDE, _MAX_KERNEL, _MAX_IMAGES = 10_000, 1_000_000, 100_000, 1_001, 1_000_000_000
_WIDTHS = Limits(1, _MAX_WIDTH, lengths=(1, 100))
_COUNTS = Limits(1, _MAX_DEPTH, lengths=(1, 100))

# Limits by key, or by `key of Class` where two constructors use one name with different limits.
LIMITS: dict[str, Limits] = {
    "seed": _SEED,
    "epochs": at_least(1, _MAX_IMAGES),
    "batch_size": at_least(1, _MAX_IMAGES),
    "label_smoothing": _PROBABILITY,
    "engine.device": _DEVICE,
    "engine.autocast": one_of("none", "bf16", "fp16"),
    "engine.compile": one_of("auto", True, False),
    "engine.images": one_of("auto", "device", "host"),
    "engine.accumulate": at_least(1),
    "engine.shards": at_least(1),
    "engine.threads": at_least(1, 4096),
    "engine.log_every": at_least(1),
    "data.image_size": at_least(1, _MAX_SIDE),
    "data.image_size of Shapes": at_least(16, _MAX_SIDE),
    "data.channels": one_of(1, 3),
    "data.train": at_least(10, _MAX_IMAGES),
    "data.val": at_least(10, _MAX_IMAGES),
    "data.test": at_least(10, _MAX_IMAGES),
    "data.seed": _SEED,
    "data.split_seed": _SEED,
    "data.val_fraction": _OPEN_FRACTION,
    "data.test_fraction": _OPEN_FRACTION,
    "data.mean": Limits(lengths=(1, 3)),
    "data.std": Limits(0, low_open=True, lengths=(1, 3)),
    "data.dataset": one_of("CIFAR10", "CIFAR100", "MNIST", "FashionMNIST"),
    "data.sources": Limits(lengths=(1, 100)),
    "data.layout": one_of("auto", "flat", "split"),
    "data.value_range": Limits(lengths=(2, 2)),
    "conv.unsupported": one_of("error", "skip"),
    "conv.groups": at_least(1),
    "conv.num_experts": at_least(1, 1024),
    "conv.reduction": above(0),
    "conv.reduction of Involution2d": at_least(1),
    "conv.least_hidden": at_least(1, _MAX_WIDTH),
    "conv.temperature": above(0),
    "conv.ratio": at_least(1),
    "conv.ratio of BlueprintSConv2d": above(0, 1),
    "conv.orthonormality": at_least(0),
    "conv.cheap_kernel": at_least(1, _MAX_KERNEL),
    "conv.large_kernel": at_least(1, _MAX_KERNEL),
    "conv.level_groups": Limits(1, lengths=(1, 100)),
    "conv.cardinality": at_least(1),
    "conv.group_channels": at_least(1),
    "conv.offset_groups": at_least(1),
    "conv.offset_rate": above(0),
    "conv.epsilon": above(0),
    "model.match": one_of("params", "macs"),
    "model.depth": at_least(1, _MAX_DEPTH),
    "model.factor": at_least(1, _MAX_DEPTH),
    "model.groups": at_least(1),
    "model.bottleneck": above(0, _MAX_DEPTH),
    "model.hidden": at_least(1, _MAX_WIDTH),
    "model.widths": _WIDTHS,
    "model.blocks": _COUNTS,
    "model.dropout": _PROBABILITY,
    "model.image_size": at_least(1, _MAX_SIDE),
    "model.in_channels": at_least(1),
    "model.num_classes": at_least(1, _MAX_WIDTH),
    "augment.crop_padding": at_least(0, _MAX_SIDE),
    "augment.padding_mode": one_of("reflect", "zero"),
    "augment.cutout": at_least(0, _MAX_SIDE),
    "augment.mixup_alpha": at_least(0),
    "augment.cutmix_alpha": at_least(0),
    "optimizer._partial_": one_of(True),
    "optimizer.lr": above(0),
    "optimizer.weight_decay": at_least(0),
    "optimizer.momentum": _PROBABILITY,
    "optimizer.betas": Limits(0, 1, high_open=True),
    "optimizer.eps": at_least(0),
    "schedule.warmup_epochs": at_least(0),
    "schedule.end": at_least(0, 1),
    "schedule.start": at_least(0, 1),
    "schedule.peak": _OPEN_FRACTION,
    "schedule.milestones": _OPEN_FRACTION,
    "schedule.gamma": at_least(0, 1),
    "temperature.start": above(0),
    "temperature.end": above(0),
    "temperature.epochs": at_least(0),
    "suite": one_of("layers", "loop"),
    "layers.batch_size": at_least(1),
    "layers.networks": Limits(lengths=(1, 100)),
    "layers.precisions": Limits(choices=("none", "bf16", "fp16"), lengths=(1, 3)),
    "layers.formats": Limits(choices=("channels_last", "channels_first"), lengths=(1, 2)),
    "layers.rounds": at_least(1),
    "loop.rounds": at_least(1),
    "loop.steps": at_least(1),
    "loop.rungs": one_of("all", "up", "down"),
    "checkpoint": one_of("best", "last"),
    "split": one_of("test", "val"),
    "columns": Limits(lengths=(2, 2)),
    "folders": Limits(lengths=(1, float("inf"))),
    "difference": above(0, 100),
    "target_accuracy": above(0, 100),
    "test": one_of("t", "wilcoxon"),
    "implementation": one_of("loops", "roll", "shift_matmul", "im2col", "fft", "fused", "library"),
    "padding_mode": one_of("reflect", "replicate", "circular", "zeros"),
}
