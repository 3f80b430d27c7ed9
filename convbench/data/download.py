"""Download of one file from the first source that has it, with resumption and verification of its md5 checksum."""

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
_TIMEOUT = 20.0  # seconds without a response or without further data before the next source is tried
_REPORT_EVERY = 10.0  # seconds between log lines if there is no terminal for a progress bar


class _SourceError(Exception):
    """A source did not deliver the file; the next source is tried."""


def download(filename: str, md5: str, urls: Sequence[str], folder: Path) -> Path:
    """Download a file from the first source that delivers the right content, unless the file exists already.

    The data is written to `FILENAME.part`. If the transfer is interrupted, this file is kept, and the next attempt,
    from any source, requests only the remaining bytes. The file is renamed to `FILENAME` after its md5 checksum has
    been verified, so a file of that name is always complete.

    Args:
        filename: name of the file in `folder`.
        md5: expected md5 checksum of the file, in hexadecimal digits.
        urls: full addresses of the file, in the order in which they are tried; the original source last.
        folder: destination folder; it is created if needed.

    Returns:
        The path of the file.

    Raises:
        UserError: if no source delivered the file; the message says what to download by hand, and where to put it.
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
            log.warning("%s: the file has md5 %s instead of %s and was deleted", url, found, md5)
    except OSError as error:
        raise UserError(
            f"cannot write {filename} to {folder.absolute()} ({error}); give a writable folder (data.root)"
        ) from error
    manual = f"download {urls[-1]} (md5 {md5}) by hand and save it as" if urls else f"save the file with md5 {md5} as"
    raise UserError(
        f"no source delivered {filename}: {manual} {target.absolute()} or give another source (data.sources)"
    )


def md5_of(path: Path) -> str:
    """Compute the md5 checksum of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _fetch(url: str, part: Path) -> None:
    """Download the missing bytes of the file at `url` and append them to `part`.

    Raises:
        _SourceError: if the source cannot be reached, or the connection breaks; the received bytes stay in `part`.
        OSError: if `part` cannot be written.
    """
    offset = part.stat().st_size if part.exists() else 0
    with contextlib.ExitStack() as stack:
        try:
            response = stack.enter_context(_open(url, offset))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not offset:
                raise _SourceError(f"{error.code} {error.reason}") from None
            # No bytes remain: either the file is complete, or it came from another file. The md5 checksum decides.
            log.info("%s: all %d bytes have been downloaded already; the checksum is verified next", url, offset)
            return
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _SourceError(_reason(error)) from None
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        if offset and not resumed:
            log.info("%s does not support resuming; the download starts from the beginning", url)
            offset = 0
        length = response.headers.get("Content-Length")
        total = offset + int(length) if length and length.isdigit() else None
        log.info("%s %s%s", "resuming" if resumed else "downloading", url, f" ({total / 1e6:.1f} MB)" if total else "")
        with part.open("ab" if resumed else "wb") as file:
            received = offset
            for block in _with_progress(_blocks(response), part.stem, offset, total):
                file.write(block)
                received += len(block)
    if total is not None and received < total:
        raise _SourceError(f"the connection was closed after {received} of {total} bytes")


def _open(url: str, offset: int) -> http.client.HTTPResponse:
    headers = {"User-Agent": f"convbench/{version('convbench')}", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    return response


def _blocks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield data as soon as it is received, so that nothing is lost if the connection breaks."""
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


def _with_progress(blocks: Iterator[bytes], name: str, received: int, total: int | None) -> Iterator[bytes]:
    """Yield the blocks and show a progress bar on a terminal, or a log line at intervals elsewhere."""
    last_report = time.monotonic()
    terminal = sys.stderr.isatty()
    with tqdm(
        desc=name, initial=received, total=total, unit="B", unit_scale=True, disable=not terminal, leave=False
    ) as bar:
        for block in blocks:
            yield block
            received += len(block)
            bar.update(len(block))
            if not terminal and time.monotonic() - last_report > _REPORT_EVERY:
                last_report = time.monotonic()
                log.info("%s: %.1f MB%s", name, received / 1e6, f" of {total / 1e6:.1f} MB" if total else "")
