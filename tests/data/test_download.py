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


def nobody() -> HttpSource:
    """A source that refuses connections: its port was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return HttpSource({}, url=f"http://127.0.0.1:{free.getsockname()[1]}/")


def test_a_file_arrives_whole_and_leaves_no_part_behind(start: Start, tmp_path: Path) -> None:
    path = fetch(tmp_path / "new" / "folder", start())
    assert path == tmp_path / "new" / "folder" / "file.bin"
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == ["file.bin"]


def test_a_file_that_is_there_is_not_asked_for_again(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(CONTENT)
    source = start()
    fetch(tmp_path, source)
    assert source.requests == []


def test_a_damaged_file_is_downloaded_anew(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(CONTENT[:-1] + b"?")
    assert fetch(tmp_path, start()).read_bytes() == CONTENT


def test_sources_are_tried_in_order_until_one_has_the_file(start: Start, tmp_path: Path) -> None:
    without_it, with_it, never_asked = start(), start(), start()
    without_it.files.clear()
    assert fetch(tmp_path, nobody(), without_it, with_it, never_asked).read_bytes() == CONTENT
    assert [len(source.requests) for source in (without_it, with_it, never_asked)] == [1, 1, 0]


def test_a_partial_file_is_resumed(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:200_000])
    source = start()
    assert fetch(tmp_path, source).read_bytes() == CONTENT
    assert source.requests == [("file.bin", "bytes=200000-", 100_000)]


def test_what_one_source_broke_off_another_goes_on_with(start: Start, tmp_path: Path) -> None:
    broken, whole = start(break_after=120_000), start()
    assert fetch(tmp_path, broken, whole).read_bytes() == CONTENT
    assert (broken.bytes_sent, whole.bytes_sent) == (120_000, 180_000)


def test_a_source_that_always_breaks_off_gets_the_file_across_in_several_runs(start: Start, tmp_path: Path) -> None:
    source = start(break_after=120_000)
    for have in (120_000, 240_000):
        with pytest.raises(UserError):
            fetch(tmp_path, source)
        assert (tmp_path / "file.bin.part").stat().st_size == have
    assert fetch(tmp_path, source).read_bytes() == CONTENT
    assert source.bytes_sent == len(CONTENT)


def test_a_source_that_cannot_resume_starts_over(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="convbench")
    (tmp_path / "file.bin.part").write_bytes(b"x" * 200_000)
    source = start(ranges=False)
    assert fetch(tmp_path, source).read_bytes() == CONTENT
    assert f"{source.url}file.bin cannot resume, so it starts over" in caplog.messages
    assert source.bytes_sent == len(CONTENT)


def test_a_part_that_is_already_whole_needs_no_more_bytes(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    source = start()
    assert fetch(tmp_path, source).read_bytes() == CONTENT
    assert source.requests == [("file.bin", "bytes=300000-", 0)]


@pytest.mark.parametrize("size", [100_000, 400_000])
def test_a_part_of_another_file_is_discarded_and_the_next_source_tried(start: Start, tmp_path: Path, size: int) -> None:
    (tmp_path / "file.bin.part").write_bytes(b"x" * size)
    assert fetch(tmp_path, start(), start()).read_bytes() == CONTENT


def test_wrong_content_is_deleted_logged_and_the_next_source_tried(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = start(content=b"<html>moved</html>")
    assert fetch(tmp_path, wrong, start()).read_bytes() == CONTENT
    expected = f"{wrong.url}file.bin: md5 {hashlib.md5(b'<html>moved</html>').hexdigest()} instead of {MD5}, discarded"
    assert expected in caplog.messages


def test_wrong_content_alone_leaves_nothing_behind(start: Start, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        fetch(tmp_path, start(content=b"wrong"))
    assert list(tmp_path.iterdir()) == []


def test_nothing_reachable_says_what_to_download_by_hand(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mirror, original = nobody(), nobody()
    expected = (
        f"no source in data.sources delivered file.bin: download {original.url}file.bin (md5 {MD5}) by hand "
        f"and put it at {tmp_path / 'file.bin'}"
    )
    with pytest.raises(UserError, match=f"^{re.escape(expected)}$"):
        fetch(tmp_path, mirror, original)
    assert [message.split(": ")[0] for message in caplog.messages] == [f"{s.url}file.bin" for s in (mirror, original)]


def test_a_relative_folder_is_told_as_a_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(f"put it at {tmp_path / 'sets' / 'file.bin'}")):
        fetch(Path("sets"), nobody())


def test_a_server_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convbench.data.download._TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(UserError, match=r"no source in data.sources"):
        fetch(tmp_path, HttpSource({}, url=f"http://127.0.0.1:{silent.getsockname()[1]}/"))


def test_a_folder_that_cannot_be_made_is_named(start: Start, tmp_path: Path) -> None:
    (tmp_path / "in_the_way").write_text("a file")
    folder = tmp_path / "in_the_way" / "sets"
    with pytest.raises(UserError, match=f"cannot write file.bin to {re.escape(str(folder))} .*; set data.root"):
        fetch(folder, start())


def test_off_a_terminal_the_log_tells_how_far_it_got(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("convbench.data.download._REPORT_EVERY", 0.0)
    caplog.set_level(logging.INFO, logger="convbench")
    source = start()
    fetch(tmp_path, source)
    assert caplog.messages[0] == f"downloading {source.url}file.bin (0.3 MB)"
    assert caplog.messages[-1] == "file.bin: 0.3 MB of 0.3 MB"


def test_on_a_terminal_a_bar_tells_how_far_it_got(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stderr", terminal)
    fetch(tmp_path, start())
    assert "file.bin" in terminal.getvalue()
    assert "300k" in terminal.getvalue()
