import hashlib
import io
import logging
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from convbench.data.download import download
from convbench.errors import UserError
from tests.data.http_source import HttpSource, serve

CONTENT = np.random.default_rng(0).bytes(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
Start = Callable[..., HttpSource]


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda content=CONTENT, **faults: stack.enter_context(serve(HttpSource({"file.bin": content}, **faults)))


def fetch(folder: Path, *sources: HttpSource) -> Path:
    return download("file.bin", MD5, [f"{source.url}file.bin" for source in sources], folder)


def unreachable() -> HttpSource:
    """A source that refuses connections: no server listens on its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return HttpSource({}, url=f"http://127.0.0.1:{free.getsockname()[1]}/")


def test_a_download_creates_the_complete_file_and_no_partial_file(start: Start, tmp_path: Path) -> None:
    path = fetch(tmp_path / "new" / "folder", start())
    assert path == tmp_path / "new" / "folder" / "file.bin"
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == ["file.bin"]


def test_an_existing_file_is_not_downloaded_again(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(CONTENT)
    source = start()
    fetch(tmp_path, source)
    assert source.requests == []


def test_a_damaged_file_is_downloaded_again(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(CONTENT[:-1] + b"?")
    assert fetch(tmp_path, start()).read_bytes() == CONTENT


def test_sources_are_tried_in_order_until_one_has_the_file(start: Start, tmp_path: Path) -> None:
    without_file, with_file, unused = start(), start(), start()
    without_file.files.clear()
    assert fetch(tmp_path, unreachable(), without_file, with_file, unused).read_bytes() == CONTENT
    assert [len(source.requests) for source in (without_file, with_file, unused)] == [1, 1, 0]


def test_a_partial_file_is_resumed(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:200_000])
    source = start()
    assert fetch(tmp_path, source).read_bytes() == CONTENT
    assert source.requests == [("file.bin", "bytes=200000-", 100_000)]


def test_an_interrupted_download_is_resumed_from_the_next_source(start: Start, tmp_path: Path) -> None:
    interrupted, complete = start(break_after=120_000), start()
    assert fetch(tmp_path, interrupted, complete).read_bytes() == CONTENT
    assert (interrupted.bytes_sent, complete.bytes_sent) == (120_000, 180_000)


def test_a_file_is_completed_in_several_attempts_if_its_only_source_always_disconnects(
    start: Start, tmp_path: Path
) -> None:
    source = start(break_after=120_000)
    for received in (120_000, 240_000):
        with pytest.raises(UserError):
            fetch(tmp_path, source)
        assert (tmp_path / "file.bin.part").stat().st_size == received
    assert fetch(tmp_path, source).read_bytes() == CONTENT
    assert source.bytes_sent == len(CONTENT)


def test_a_download_starts_again_if_the_source_does_not_support_ranges(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="convbench")
    (tmp_path / "file.bin.part").write_bytes(b"x" * 200_000)
    source = start(ranges=False)
    assert fetch(tmp_path, source).read_bytes() == CONTENT
    assert "resuming" in next(message for message in caplog.messages if message.startswith(f"{source.url}file.bin"))
    assert source.bytes_sent == len(CONTENT)


def test_a_complete_partial_file_needs_no_more_bytes(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    source = start()
    assert fetch(tmp_path, source).read_bytes() == CONTENT
    assert source.requests == [("file.bin", "bytes=300000-", 0)]


@pytest.mark.parametrize("size", [100_000, 400_000])
def test_a_partial_file_with_other_content_is_deleted_and_the_next_source_is_tried(
    start: Start, tmp_path: Path, size: int
) -> None:
    (tmp_path / "file.bin.part").write_bytes(b"x" * size)
    assert fetch(tmp_path, start(), start()).read_bytes() == CONTENT


def test_wrong_content_is_deleted_with_a_warning_and_the_next_source_is_tried(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = start(content=b"<html>moved</html>")
    assert fetch(tmp_path, wrong, start()).read_bytes() == CONTENT
    (warning,) = [message for message in caplog.messages if MD5 in message]  # a busy machine may add a broken download
    for fact in (f"{wrong.url}file.bin", hashlib.md5(b"<html>moved</html>").hexdigest()):
        assert fact in warning


def test_wrong_content_from_all_sources_leaves_no_file(start: Start, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        fetch(tmp_path, start(content=b"wrong"))
    assert list(tmp_path.iterdir()) == []


def test_the_error_for_unreachable_sources_says_what_to_download_by_hand(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mirror, original = unreachable(), unreachable()
    with pytest.raises(UserError) as error:
        fetch(tmp_path, mirror, original)
    for fact in (f"{original.url}file.bin", MD5, str(tmp_path / "file.bin"), "(data.sources)"):
        assert fact in str(error.value)
    assert [message.split(": ")[0] for message in caplog.messages] == [f"{s.url}file.bin" for s in (mirror, original)]


def test_the_error_gives_the_absolute_path_of_a_relative_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "sets" / "file.bin"))):
        fetch(Path("sets"), unreachable())


def test_a_server_that_does_not_respond_is_an_error_after_the_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convbench.data.download._TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(UserError, match=r"\(data\.sources\)$"):
        fetch(tmp_path, HttpSource({}, url=f"http://127.0.0.1:{silent.getsockname()[1]}/"))


def test_the_error_for_a_folder_that_cannot_be_created_names_it(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    folder = tmp_path / "file" / "sets"
    with pytest.raises(UserError, match=rf"file\.bin .*{re.escape(str(folder))} .*\(data\.root\)$"):
        fetch(folder, start())


def test_without_a_terminal_the_progress_is_logged(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("convbench.data.download._REPORT_EVERY", 0.0)
    caplog.set_level(logging.INFO, logger="convbench")
    source = start()
    fetch(tmp_path, source)
    assert f"{source.url}file.bin" in caplog.messages[0]
    assert caplog.messages[0].count("0.3 MB") == 1
    assert "file.bin" in caplog.messages[-1]
    assert caplog.messages[-1].count("0.3 MB") == 2


def test_on_a_terminal_a_progress_bar_is_shown(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stderr", terminal)
    fetch(tmp_path, start())
    assert "file.bin" in terminal.getvalue()
    assert "300k" in terminal.getvalue()
