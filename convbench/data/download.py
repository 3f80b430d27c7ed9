"""One file from the first of several sources that has it, resumed where it broke off, checked by its md5."""

import contextlib
import hashlib
import http.client
import logging
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from tqdm import tqdm

from convbench.errors import UserError

log = logging.getLogger("convbench")

_CHUNK = 64 * 1024
_TIMEOUT = 20.0  # seconds without an answer, or without a byte, before the next source is tried
_REPORT_EVERY = 10.0  # seconds between log lines where there is no terminal for a bar


class _SourceError(Exception):
    """This source does not give the file; the next one may."""


def download(filename: str, md5: str, urls: Sequence[str], folder: Path) -> Path:
    """Fetch a file from the first source that delivers it unchanged; do nothing if it is there already.

    Bytes go to `FILENAME.part`, which stays when a transfer breaks off; the next attempt, from any source, asks for
    the rest only. The file gets its name once its md5 is right, so a file of that name is always whole.

    Args:
        filename: name of the file in `folder`.
        md5: its checksum, which decides whether a source is right.
        urls: full addresses in the order of trying; the original last.
        folder: where the file goes; made if needed.

    Returns:
        The path of the file.

    Raises:
        UserError: if no source delivered the file; says what to download by hand, and where to put it.
    """
    target = folder / filename
    if target.is_file() and md5_of(target) == md5:
        return target
    part = folder / f"{filename}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for url in urls:
            try:
                _fetch(url, part)
            except _SourceError as error:
                log.warning("%s: %s", url, error)
                continue
            found = md5_of(part)
            if found == md5:
                part.replace(target)
                return target
            part.unlink()
            log.warning("%s: md5 %s instead of %s, discarded", url, found, md5)
    except OSError as error:
        raise UserError(
            f"cannot write {filename} to {folder.absolute()} ({error}); set data.root to a folder of yours"
        ) from error
    by_hand = f"download {urls[-1]} (md5 {md5}) by hand and put it at" if urls else f"a file with md5 {md5} belongs at"
    raise UserError(f"no source in data.sources delivered {filename}: {by_hand} {target.absolute()}")


def md5_of(path: Path) -> str:
    """The md5 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _fetch(url: str, part: Path) -> None:
    """Append to `part` what it lacks of the file at `url`.

    Raises:
        _SourceError: if the source cannot be reached, or breaks off; what arrived stays in `part`.
        OSError: if `part` cannot be written.
    """
    have = part.stat().st_size if part.exists() else 0
    with contextlib.ExitStack() as stack:
        try:
            response = stack.enter_context(_open(url, have))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
                raise _SourceError(f"{error.code} {error.reason}") from None
            # Nothing follows the bytes we have: the file is complete, or not this source's file. The md5 decides.
            log.info("%s has no more than the %d bytes already here", url, have)
            return
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _SourceError(_reason(error)) from None
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        if have and not resumed:
            log.info("%s cannot resume, so it starts over", url)
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        log.info("%s %s%s", "resuming" if resumed else "downloading", url, f" ({total / 1e6:.1f} MB)" if total else "")
        with part.open("ab" if resumed else "wb") as file:
            arrived = have
            for block in _with_progress(_blocks(response), part.stem, have, total):
                file.write(block)
                arrived += len(block)
    if total is not None and arrived < total:
        raise _SourceError(f"broke off after {arrived} of {total} bytes")


def _open(url: str, have: int) -> http.client.HTTPResponse:
    headers = {"User-Agent": f"convbench/{version('convbench')}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    return response


def _blocks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """What arrives, at once and as it arrives, so that nothing received is lost when the connection breaks."""
    while True:
        try:
            block = response.read1(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _SourceError(_reason(error)) from None
        if not block:
            return
        yield block


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error) or type(error).__name__


def _with_progress(blocks: Iterator[bytes], name: str, have: int, total: int | None) -> Iterator[bytes]:
    """Pass the blocks on, with a bar on a terminal and a log line now and then elsewhere."""
    reported = time.monotonic()
    terminal = sys.stderr.isatty()
    with tqdm(
        desc=name, initial=have, total=total, unit="B", unit_scale=True, disable=not terminal, leave=False
    ) as bar:
        for block in blocks:
            yield block
            have += len(block)
            bar.update(len(block))
            if not terminal and time.monotonic() - reported > _REPORT_EVERY:
                reported = time.monotonic()
                log.info("%s: %.1f MB%s", name, have / 1e6, f" of {total / 1e6:.1f} MB" if total else "")
