"""Take a picture of TensorBoard showing some runs: `python scripts/tensorboard_screenshot.py OUT.png RUN [RUN ...]`.

Needs Chromium (Debian: `apt-get install chromium`).
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
    """Return once TensorBoard answers and has read all runs."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if b"loss/val" in answer.read():
                    return
        except OSError:
            pass
        time.sleep(0.5)
    raise TimeoutError(f"{url} did not answer")


def main(out: str, *runs: str) -> None:
    """Start TensorBoard over copies of the runs, photograph it and stop it."""
    with tempfile.TemporaryDirectory() as scratch:
        above = os.path.commonpath([Path(run).resolve().parent for run in runs])
        for run in runs:
            target = Path(scratch, "runs", os.path.relpath(run, above))
            target.mkdir(parents=True)
            for events in Path(run).glob("events.out.tfevents.*"):
                shutil.copy(events, target)
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", "runs", "--port", str(PORT)]
        server = subprocess.Popen(command, cwd=scratch, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            base = f"http://127.0.0.1:{PORT}"
            wait_for(f"{base}/data/plugin/scalars/tags")
            browser = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
            picture = [
                f"--screenshot={Path(out).resolve()}",
                "--window-size=1400,1000",
                "--virtual-time-budget=20000",
                f"--user-data-dir={scratch}/browser",
            ]
            page = f"{base}/?darkMode=false#scalars&_smoothingWeight=0"
            subprocess.run([browser, *FLAGS.split(), *picture, page], check=True, stderr=subprocess.DEVNULL)
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
