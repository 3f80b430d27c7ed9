"""What was measured once on a device need not be measured again: a JSON file in the cache folder."""

import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from convbench.engine.device import describe_device

log = logging.getLogger("convbench")


class Remembered:
    """`{device and versions: {topic: {key: value}}}` in a file.

    Args:
        folder: of the file; made when something is remembered.
        device: what was measured on another one, or with other versions, is not looked at.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.path = folder / "measured.json"
        self.where = f"{describe_device(device)}, torch {torch.__version__}"

    def recall(self, topic: str, key: str) -> Any:
        """What was remembered, or None."""
        return self._read().get(self.where, {}).get(topic, {}).get(key)

    def remember(self, topic: str, key: str, value: Any) -> None:
        """Keep a value; a folder that cannot be written costs the next run some seconds, no more."""
        known = self._read()
        known.setdefault(self.where, {}).setdefault(topic, {})[key] = value
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self.path.parent, suffix=".part", delete=False) as file:
                json.dump(known, file, indent=1)
            os.replace(file.name, self.path)
        except OSError as error:
            log.warning(
                "cannot remember measurements in %s (%s); set engine.cache to a folder of yours", self.path, error
            )

    def _read(self) -> dict[str, Any]:
        try:
            known = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}
