"""What was measured once on a device need not be measured again: a JSON file in the cache folder."""

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
    """`{device and versions: {topic: {key: {name: seconds}}}}` in a file.

    What has another shape was written by something else, or by hand; it counts as nothing, and is written over.

    Args:
        folder: of the file; made when something is measurements.
        device: what was measured on another one, or with other versions, is not looked at.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.path = folder / "measured.json"
        self.where = f"{describe_device(device)}, torch {torch.__version__}"

    def get(self, topic: str, key: str) -> dict[str, float] | None:
        """The seconds that were measurements, by name, or None."""
        found = _below(_below(_below(self._read(), self.where), topic), key)
        return found if found and all(map(_is_time, found.values())) else None

    def put(self, topic: str, key: str, seconds: Mapping[str, float]) -> None:
        """Keep measurements; a folder that cannot be written costs the next run some seconds, no more."""
        known = self._read()
        here = _below(known, self.where)
        known |= {self.where: here | {topic: _below(here, topic) | {key: seconds}}}
        try:
            write_text(self.path, to_json(known, indent=1))
        except OSError as error:
            log.warning(
                "cannot remember measurements in %s (%s); set engine.cache to a folder of yours", self.path, error
            )

    def _read(self) -> dict[str, Any]:
        try:
            known = json.loads(read_text(self.path))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}


def _below(known: dict[str, Any], name: str) -> dict[str, Any]:
    found = known.get(name)
    return found if isinstance(found, dict) else {}


def _is_time(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value >= 0
