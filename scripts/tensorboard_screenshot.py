"""Take a screenshot of TensorBoard with some runs: `python scripts/tensorboard_screenshot.py OUT.png RUN [RUN ...]`.

The script needs Chromium (Debian: `apt-get install chromium`).
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

PORT = 6123
FLAGS = "--headless --no-sandbox --disable-gpu --hide-scrollbars --disable-background-networking --disable-sync"


def wait_for(url: str, seconds: float = 60) -> None:
    """Wait until TensorBoard responds and has read the runs.

    Raises:
        TimeoutError: It did not respond within `seconds` seconds.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2) as response:
                if b"loss/val" in response.read():
                    return
        except OSError:
            pass
        time.sleep(0.5)
    raise TimeoutError(f"{url} did not respond within {seconds:g} s")


def main(out: str, *runs: str) -> None:
    """Start TensorBoard with copies of the runs, take a screenshot, and stop it."""
    with tempfile.TemporaryDirectory() as scratch:
        common = os.path.commonpath([Path(run).resolve().parent for run in runs])
        for run in runs:
            target = Path(scratch, "runs", os.path.relpath(run, common))
            target.mkdir(parents=True)
            for events in Path(run).glob("events.out.tfevents.*"):
                shutil.copy(events, target)
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", "runs", "--port", str(PORT)]
        server = subprocess.Popen(command, cwd=scratch, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            base = f"http://127.0.0.1:{PORT}"
            wait_for(f"{base}/data/plugin/scalars/tags")
            browser = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
            options = [
                f"--screenshot={Path(out).resolve()}",
                "--window-size=1400,1000",
                "--virtual-time-budget=20000",
                f"--user-data-dir={scratch}/browser",
            ]
            page = f"{base}/?darkMode=false#scalars&_smoothingWeight=0"
            subprocess.run([browser, *FLAGS.split(), *options, page], check=True, stderr=subprocess.DEVNULL)
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
