"""The validation of a configuration before anything is built: no unknown key, no missing key, only allowed values.

The type of a key is the annotation of the constructor argument that it sets, or its entry in `keys.KEYS` if no
constructor takes it. Its range is its entry in `keys.LIMITS`. Conditions that involve several keys or the images are
left to the constructors. This module does not import PyTorch, so that a mistake on the command line is reported within
half a second.
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
from convbench.errors import UserError, find_user_error


def check(config: DictConfig, command: str) -> None:
    """Validate a composed configuration: no unknown key, no missing key, only allowed values.

    Args:
        config: the configuration as Hydra composed it; its node `hydra` is ignored.
        command: the command that the configuration belongs to: `train`, `bench`, ...

    Raises:
        UserError: for the first key that is not valid; names the key, its value and what is allowed.
    """
    plain = _resolved(config)
    for group in _constructed(plain, command):
        target = _target(plain, group)
        if target is None:
            raise UserError(f"{group} does not name a class to build: give {group}._target_ ({group})")
        if "." not in target or not all(part.isidentifier() for part in target.split(".")):
            raise UserError(
                f"{shown(target)} is not the dotted path of a class, such as torch.nn.Conv2d ({group}._target_)"
            )
    kinds = kinds_of(plain, command)
    unknown = [key for key in _leaves(plain) if key not in kinds and not _is_checked_by_its_class(key, plain)]
    if unknown:
        raise UserError(unknown_keys(unknown, kinds, plain))
    missing = [key for key in _required_keys(plain, command) if _find(plain, key) is _ABSENT]
    if missing:
        raise UserError(f"{missing[0]} is required, but was removed: give it a value ({missing[0]})")
    for key, kind in kinds.items():
        value = _find(plain, key)
        if value is not _ABSENT and kind is not None and not kind.allows(value):
            raise UserError(refusal(key, value, kind))
    _check_together(plain)


def kinds_of(plain: Mapping[str, Any], command: str) -> dict[str, Kind | None]:
    """Every key that the configuration of a command may have, with its kind.

    The kind is None where the class that receives the value checks it itself.

    Args:
        plain: the configuration as plain values; for a group that names no class, no keys are returned.
        command: the command that the configuration belongs to.
    """
    kinds = {key: kind_of(annotation, LIMITS.get(key)) for key, annotation in KEYS[command].items()}
    if command in LOGGED:
        kinds["logger"] = None  # the section `logger` may be empty
    for group in _constructed(plain, command):
        target = _target(plain, group)
        if target is None:
            continue
        signature = signature_of(target)
        kinds[f"{group}._target_"] = Kind(frozenset({"str"}))
        kinds |= _argument_kinds(group, target, signature)
        extra = dict(EXTRA_KEYS.get(group, {}))
        if group == "model" and signature is not None and "image_size" not in signature.parameters:
            del extra["image_size"]  # only some networks depend on the image size
        if group == "optimizer" and signature is not None and "weight_decay" not in signature.parameters:
            del extra["weight_decay"]
        kinds |= {
            f"{group}.{name}": kind_of(annotation, _limits(group, name, target)) for name, annotation in extra.items()
        }
    return kinds


def _constructed(plain: Mapping[str, Any], command: str) -> list[str]:
    """The sections that describe the call of a constructor; each logger is a section of its own."""
    groups = list(CONSTRUCTED_GROUPS.get(command, ()))
    sinks = plain.get("logger")
    return groups + ([f"logger.{name}" for name in sinks] if command in LOGGED and isinstance(sinks, dict) else [])


def _target(plain: Mapping[str, Any], group: str) -> str | None:
    """The dotted path of the class that a section instantiates; None if the section names no class."""
    target = _find(plain, f"{group}._target_")
    return target if isinstance(target, str) else None


def _argument_kinds(group: str, target: str, signature: Signature | None) -> dict[str, Kind | None]:
    """The keys that set the arguments of a section's class, with their kinds."""
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
    """The limits on an argument: those for its class, if there are any, or else those of the key."""
    key = f"{group}.{name}"
    return LIMITS.get(f"{key} of {target.rpartition('.')[2]}", LIMITS.get(key))


def _required_keys(plain: Mapping[str, Any], command: str) -> Iterator[str]:
    """The keys that a configuration of the command must have."""
    yield from KEYS[command]
    for group in _constructed(plain, command):
        yield from (f"{group}.{name}" for name in REQUIRED.get(group, ()))
        signature = signature_of(str(_target(plain, group)))
        if signature is not None:
            filled_in = {*FILLED_IN.get(group, ()), *EXTRA_KEYS.get(group, {})}
            required = (name for name, parameter in signature.parameters.items() if parameter.is_required)
            yield from (f"{group}.{name}" for name in required if name not in filled_in)


def _is_checked_by_its_class(key: str, plain: Mapping[str, Any]) -> bool:
    """Whether a key is, or belongs to, an argument of a class that checks its arguments itself."""
    group, rest = _section(key)
    target, name = _target(plain, group), rest.partition(".")[0]
    if target is None or not rest:
        return False
    signature = signature_of(target)
    if signature is None or signature.takes_any:
        return name not in FILLED_IN.get(group, ())
    if group == "conv" and name == "implementation":
        return not target.startswith(TYPED)  # a key of the yaml file in which the user's class replaced `_target_`
    return not target.startswith(TYPED) and name in signature.parameters


def _check_together(plain: Mapping[str, Any]) -> None:
    """Check conditions on several keys for which the error message of PyTorch would not name the keys."""
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
            f"model.match_to={shown(match_to)} is not a convolution: choose {', '.join(options('conv'))} "
            "(model.match_to)"
        )


def unknown_keys(unknown: Iterable[str], kinds: Iterable[str], plain: Mapping[str, Any]) -> str:
    """The error message for unknown keys, with the most similar known keys.

    Args:
        unknown: the unknown keys, at least one.
        kinds: the known keys.
        plain: the configuration as plain values, from which the names of its classes are taken.
    """
    keys = list(unknown)
    first = keys[0]
    group, rest = _section(first)
    target = _target(plain, group)
    if rest and target is not None:
        known = [key for key in kinds if key.startswith(f"{group}.") and not key.endswith("_")]
        given = [key for key in keys if key.startswith(f"{group}.")]
        similar = ", ".join(f"{group}.{name}" for name in near(rest, [_section(key)[1] for key in known]))
        return (
            f"{target} has no argument {', '.join(_section(key)[1] for key in given)}: choose {similar}, "
            f"or remove a key of a yaml file with {' '.join(f'~{key}' for key in given)} ({first})"
        )
    children = [key for key in kinds if key.startswith(f"{first}.")]
    if children:
        value = shown(_find(plain, first))
        return f"{first}={value} is not allowed: {first} is a section with the keys {', '.join(children)} ({first})"
    similar = ", ".join(near(first, kinds))
    return f"there is no key {', '.join(keys)}: choose {similar} ({first})"


def near(key: str, known: Iterable[str]) -> list[str]:
    """The known keys that are most similar to a key; all of them if nothing is similar and there are at most eight."""
    known = sorted(set(known))
    found = difflib.get_close_matches(key, known, n=5, cutoff=0.5)
    if not found:  # the same key in another group
        leaf = key.rpartition(".")[2]
        found = [other for other in known if leaf == other.rpartition(".")[2]]
    return found or (known if len(known) <= 8 else difflib.get_close_matches(key, known, n=3, cutoff=0.0))


def _section(key: str) -> tuple[str, str]:
    """The section of a dotted key and the rest: `model` and `depth`, or `logger.console` and one of its arguments."""
    parts = key.split(".")
    depth = 2 if parts[0] == "logger" else 1
    return ".".join(parts[:depth]), ".".join(parts[depth:])


_ABSENT = object()


def _resolved(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain Python values, without the node `hydra` and with all references resolved."""
    kept = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    try:
        missing = sorted(OmegaConf.missing_keys(kept))
        if missing:
            raise UserError(f"{missing[0]} has no default value: give {missing[0]}=...")
        plain = OmegaConf.to_container(kept, resolve=True)
    except OmegaConfBaseException as error:
        user_error = find_user_error(error)  # raised by a resolver
        if user_error is not None:
            raise user_error from error
        key = getattr(error, "full_key", None)
        raise UserError(f"{str(error).splitlines()[0]} ({key})" if key else str(error).splitlines()[0]) from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _leaves(node: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    """The dotted keys of all values that are not sections, and of empty sections."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _find(plain: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; `_ABSENT` if there is none."""
    node: Any = plain
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return _ABSENT
        node = node[part]
    return node
