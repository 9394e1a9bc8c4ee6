"""A web server on this machine that does what servers do on bad days, as it is told."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What the server has and how it behaves.

    Attributes:
        files: content by path.
        etags: by path, with quotes; "" gives none.
        ranges: whether range requests are understood.
        if_range: whether If-Range is.
        lengths: whether Content-Length is sent.
        told_length: what it says instead of the length; "": the length.
        cuts: for the next requests, after how many bytes of the body the connection is cut; None: not.
        stalls: for the next requests, seconds without a byte after the first half of the body.
        statuses: for the next requests, a status instead of the file; 0: the file.
        headers: of those.
        redirects: other URLs by path.
        requests: what was asked: path and range, "" for all.
        url: of the server.
    """

    files: dict[str, bytes]
    etags: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    if_range: bool = True
    lengths: bool = True
    told_length: str = ""
    cuts: list[int | None] = field(default_factory=list)
    stalls: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve a site until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            site.requests.append((self.path, asked))
            status = site.statuses.pop(0) if site.statuses else 0
            if self.path in site.redirects:
                self.send_response(302)
                self.send_header("Location", site.redirects[self.path])
                self.end_headers()
                return
            if status or self.path not in site.files:
                self.send_response(status or 404)
                for name, value in site.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                return
            self._send(site.files[self.path], asked)

        def _send(self, body: bytes, asked: str) -> None:
            etag = site.etags.get(self.path, "")
            first = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and site.ranges else 0
            condition = self.headers.get("If-Range")
            if site.if_range and condition is not None and condition != etag:
                first = 0
            if first and first >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.end_headers()
                return
            self.send_response(206 if first else 200)
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
            if etag:
                self.send_header("ETag", etag)
            if site.lengths:
                self.send_header("Content-Length", site.told_length or str(len(body) - first))
            self.end_headers()
            cut = site.cuts.pop(0) if site.cuts else None
            if site.stalls:
                half = (len(body) - first) // 2
                self.wfile.write(body[first : first + half])
                self.wfile.flush()
                first += half
                time.sleep(site.stalls.pop(0))
            self.wfile.write(body[first:] if cut is None else body[first : first + cut])
            self.wfile.flush()
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that has heard enough is no error of the server."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
