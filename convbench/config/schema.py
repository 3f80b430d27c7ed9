"""The check of a configuration before anything is loaded: every key is known, is there, and has a value it may have.

Three things are known of a key: its type, which the annotation of the constructor's argument says, or `keys.KEYS` where
no constructor takes it; its range, in `keys.LIMITS`; and that something reads it at all. What depends on several keys
or on the images is left to the constructors. No torch here, so that a slip is answered in the first half second.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from convbench.config.keys import CONSTRUCTED_GROUPS, EXTRA_KEYS, FILLED_IN, KEYS, LIMITS, LOGGED, REQUIRED, TYPED
from convbench.config.kinds import Kind, Limits, kind_of, refusal, shown
from convbench.config.options import options
from convbench.config.signatures import Signature, signature_of
from convbench.errors import UserError, causes


def check(config: DictConfig, command: str) -> None:
    """Check every key of a composed configuration: that it is known, is there, and has a value that is allowed.

    Args:
        config: as Hydra composed it; its node `hydra` is passed over.
        command: whose configuration it is: train, bench, ...

    Raises:
        UserError: naming the key, the value and what is allowed.
    """
    plain = _resolved(config)
    for group in _constructed(plain, command):
        target = _target(plain, group)
        if target is None:
            raise UserError(f"{group} names no class to build: give {group}._target_ ({group})")
        if "." not in target or not all(part.isidentifier() for part in target.split(".")):
            raise UserError(f"{shown(target)} is no path of a class, such as torch.nn.Conv2d ({group}._target_)")
    kinds = kinds_of(plain, command)
    unknown = [key for key in _leaves(plain) if key not in kinds and not _is_left_to_its_class(key, plain)]
    if unknown:
        raise UserError(unknown_keys(unknown, kinds, plain))
    missing = [key for key in _needed(plain, command) if _find(plain, key) is _ABSENT]
    if missing:
        raise UserError(f"{missing[0]} is needed and was taken away: give it a value ({missing[0]})")
    for key, kind in kinds.items():
        value = _find(plain, key)
        if value is not _ABSENT and kind is not None and not kind.allows(value):
            raise UserError(refusal(key, value, kind))
    _check_together(plain)


def kinds_of(plain: Mapping[str, Any], command: str) -> dict[str, Kind | None]:
    """Every key that a configuration of a command may have, and what it may hold; None: its class decides.

    Args:
        plain: the configuration; the keys of a group that names no class are not known.
        command: whose configuration it is.
    """
    kinds = {key: kind_of(annotation, LIMITS.get(key)) for key, annotation in KEYS[command].items()}
    if command in LOGGED:
        kinds["logger"] = None  # a section that may be empty
    for group in _constructed(plain, command):
        target = _target(plain, group)
        if target is None:
            continue
        signature = signature_of(target)
        kinds[f"{group}._target_"] = Kind(frozenset({"str"}))
        kinds |= _of_arguments(group, target, signature)
        beside = dict(EXTRA_KEYS.get(group, {}))
        if group == "model" and signature is not None and "image_size" not in signature.parameters:
            del beside["image_size"]  # for networks that have to know it
        if group == "optimizer" and signature is not None and "weight_decay" not in signature.parameters:
            del beside["weight_decay"]
        kinds |= {
            f"{group}.{name}": kind_of(annotation, _limits(group, name, target)) for name, annotation in beside.items()
        }
    return kinds


def _constructed(plain: Mapping[str, Any], command: str) -> list[str]:
    """The sections that are calls of a constructor; those of the group `logger` have a section each."""
    groups = list(CONSTRUCTED_GROUPS.get(command, ()))
    sinks = plain.get("logger")
    return groups + ([f"logger.{name}" for name in sinks] if command in LOGGED and isinstance(sinks, dict) else [])


def _target(plain: Mapping[str, Any], group: str) -> str | None:
    """The dotted path of the class that a section calls; None where it names none."""
    target = _find(plain, f"{group}._target_")
    return target if isinstance(target, str) else None


def _of_arguments(group: str, target: str, signature: Signature | None) -> dict[str, Kind | None]:
    if signature is None:
        return {}
    is_typed = target.startswith(TYPED)
    return {
        f"{group}.{name}": kind_of(parameter.annotation, _limits(group, name, target))
        if is_typed and parameter.annotation is not None
        else None
        for name, parameter in signature.parameters.items()
        if name not in FILLED_IN.get(group, ())
    }


def _limits(group: str, name: str, target: str) -> Limits | None:
    key = f"{group}.{name}"
    return LIMITS.get(f"{key} of {target.rpartition('.')[2]}", LIMITS.get(key))


def _needed(plain: Mapping[str, Any], command: str) -> Iterator[str]:
    """The keys without which nothing can be built."""
    yield from KEYS[command]
    for group in _constructed(plain, command):
        yield from (f"{group}.{name}" for name in REQUIRED.get(group, ()))
        signature = signature_of(str(_target(plain, group)))
        if signature is not None:
            given = {*FILLED_IN.get(group, ()), *EXTRA_KEYS.get(group, {})}
            required = (name for name, parameter in signature.parameters.items() if parameter.is_required)
            yield from (f"{group}.{name}" for name in required if name not in given)


def _is_left_to_its_class(key: str, plain: Mapping[str, Any]) -> bool:
    """Whether a key is, or lies within, an argument of a class that checks its arguments itself."""
    group, rest = _section(key)
    target, name = _target(plain, group), rest.partition(".")[0]
    if target is None or not rest:
        return False
    signature = signature_of(target)
    if signature is None or signature.takes_any:
        return name not in FILLED_IN.get(group, ())
    if group == "conv" and name == "implementation":
        return not target.startswith(TYPED)  # of the yaml whose `_target_` the class has taken
    return not target.startswith(TYPED) and name in signature.parameters


def _check_together(plain: Mapping[str, Any]) -> None:
    """What the values of several keys must be together, where PyTorch would say it without naming them."""
    optimizer = plain.get("optimizer", {})
    if optimizer.get("nesterov") is True and (not optimizer.get("momentum") or optimizer.get("dampening")):
        raise UserError(
            f"Nesterov's momentum needs a momentum above 0 and no dampening, not momentum "
            f"{shown(optimizer.get('momentum', 0))} and dampening {shown(optimizer.get('dampening', 0))}: "
            "give optimizer.nesterov=false, or another optimizer.momentum (optimizer.nesterov)"
        )
    match_to = _find(plain, "model.match_to")
    if match_to is not _ABSENT and match_to not in options("conv"):
        raise UserError(
            f"model.match_to={shown(match_to)} is no conv: choose {', '.join(options('conv'))} (model.match_to)"
        )


def unknown_keys(unknown: Iterable[str], kinds: Iterable[str], plain: Mapping[str, Any]) -> str:
    """The sentence on keys that nothing would read, with those that come near them.

    Args:
        unknown: those keys.
        kinds: the keys that are read.
        plain: the configuration, for the names of its classes.
    """
    named = list(unknown)
    first = named[0]
    group, rest = _section(first)
    target = _target(plain, group)
    if rest and target is not None:
        taken = [key for key in kinds if key.startswith(f"{group}.") and not key.endswith("_")]
        given = [key for key in named if key.startswith(f"{group}.")]
        like = ", ".join(f"{group}.{name}" for name in near(rest, [_section(key)[1] for key in taken]))
        return (
            f"{target} takes no {', '.join(_section(key)[1] for key in given)}: "
            f"remove {'them' if len(given) > 1 else 'it'} with {' '.join(f'~{key}' for key in given)}, "
            f"or choose {like} ({first})"
        )
    below = [key for key in kinds if key.startswith(f"{first}.")]
    if below:
        value = shown(_find(plain, first))
        return f"{first}={value} is no value for a section: it has the keys {', '.join(below)} ({first})"
    like = ", ".join(near(first, kinds))
    return f"there is no key {', '.join(named)}, and nothing would read it: choose {like} ({first})"


def near(key: str, known: Iterable[str]) -> list[str]:
    """The known keys that are most like one; all of them where there are few."""
    known = sorted(set(known))
    found = difflib.get_close_matches(key, known, n=5, cutoff=0.5)
    if not found:  # the last part alone, in another group
        leaf = key.rpartition(".")[2]
        found = [other for other in known if leaf == other.rpartition(".")[2]]
    return found or (known if len(known) <= 8 else difflib.get_close_matches(key, known, n=3, cutoff=0.0))


def _section(key: str) -> tuple[str, str]:
    """The section of a dotted key and the rest: `model` and `depth`, or `logger.console` and an argument of it."""
    parts = key.split(".")
    depth = 2 if parts[0] == "logger" else 1
    return ".".join(parts[:depth]), ".".join(parts[depth:])


_ABSENT = object()


def _resolved(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain Python values."""
    kept = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    try:
        missing = sorted(OmegaConf.missing_keys(kept))
        if missing:
            raise UserError(f"{missing[0]} has no default value: give {missing[0]}=...")
        plain = OmegaConf.to_container(kept, resolve=True)
    except OmegaConfBaseException as error:
        of_a_user = next((link for link in causes(error) if isinstance(link, UserError)), None)
        if of_a_user is not None:
            raise of_a_user from error
        key = getattr(error, "full_key", None)
        raise UserError(f"{str(error).splitlines()[0]} ({key})" if key else str(error).splitlines()[0]) from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _leaves(node: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    """The dotted keys of all values that are no sections themselves, and of empty sections."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _find(plain: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; `_ABSENT` where there is none."""
    node: Any = plain
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return _ABSENT
        node = node[part]
    return node
