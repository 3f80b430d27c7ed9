"""A cache of measurements for each device: a JSON file in the cache folder."""

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from convbench.engine.device import describe_device
from convbench.files import read_text, to_json, write_text

log = logging.getLogger("convbench")


class MeasurementCache:
    """A cache `{device and versions: {topic: {key: {name: seconds}}}}` in the file `measured.json`.

    Content with another structure, for example after a manual edit, is ignored and overwritten.

    Args:
        folder: Folder of the file; created by the first write.
        device: The device. Measurements on other devices or with other versions of PyTorch are not used.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.path = folder / "measured.json"
        self.where = f"{describe_device(device)}, torch {torch.__version__}"

    def get(self, topic: str, key: str) -> dict[str, float] | None:
        """The measured times in seconds by name, or None if there are none."""
        times = _subtable(_subtable(_subtable(self._read(), self.where), topic), key)
        return times if times and all(map(_is_time, times.values())) else None

    def put(self, topic: str, key: str, seconds: Mapping[str, float]) -> None:
        """Store times in seconds by name. A folder that is not writable causes only a warning."""
        known = self._read()
        here = _subtable(known, self.where)
        known |= {self.where: here | {topic: _subtable(here, topic) | {key: seconds}}}
        try:
            write_text(self.path, to_json(known, indent=1))
        except OSError as error:
            log.warning("cannot store measurements in %s (%s); give a writable folder (engine.cache)", self.path, error)

    def _read(self) -> dict[str, Any]:
        try:
            known = json.loads(read_text(self.path))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}


def _subtable(table: dict[str, Any], name: str) -> dict[str, Any]:
    """The dictionary at `name`; empty if there is none."""
    found = table.get(name)
    return found if isinstance(found, dict) else {}


def _is_time(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value >= 0
