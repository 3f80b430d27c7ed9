"""A local HTTP server with configurable faults, for the tests of downloads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class HttpSource:
    """Files of a server, its faults, and the requests that it received.

    Attributes:
        files: content of each file by name; the folder in the address is ignored.
        ranges: whether the server supports the Range header.
        break_after: number of bytes of each response after which the server closes the connection; None for all bytes.
        url: base address, with a slash at the end.
        requests: file name, Range header and number of bytes sent of each request.
    """

    files: dict[str, bytes]
    ranges: bool = True
    break_after: int | None = None
    url: str = ""
    requests: list[tuple[str, str | None, int]] = field(default_factory=list)

    @property
    def bytes_sent(self) -> int:
        return sum(sent for _, _, sent in self.requests)


@contextmanager
def serve(source: HttpSource) -> Iterator[HttpSource]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rsplit("/", 1)[-1]
            asked = self.headers.get("Range")
            if name not in source.files:
                source.requests.append((name, asked, 0))
                self.send_error(404)
                return
            content = source.files[name]
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and source.ranges else 0
            if start and start >= len(content):
                source.requests.append((name, asked, 0))
                self.send_error(416)
                return
            body = content[start:]
            sent = body if source.break_after is None else body[: source.break_after]
            source.requests.append((name, asked, len(sent)))
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    source.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield source
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
