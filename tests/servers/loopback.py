"""A file server on loopback that knows HTTP ranges, keeps a log, hands out tokens, and fails when told to."""

from __future__ import annotations

import json
import os
import re
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlparse

from RangeHTTPServer import RangeRequestHandler

_API = re.compile(r"/(search|conformance|collections.*)?")


@dataclass
class Fault:
    """One misbehaviour: on paths that match, as many times as said.

    ``status``: answer with this status. ``slow``: wait so many seconds first. ``cut``: send half of
    the answer and hang up. ``short``: send half of what was asked for, and call it all. ``body``: send this text
    as a web page, with status 200.
    """

    path: str
    status: int | None = None
    slow: float = 0.0
    cut: bool = False
    short: bool = False
    body: str | None = None
    times: int | None = 1
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """One request as the server saw it."""

    method: str
    path: str
    range: str | None
    status: int


class Loopback(ThreadingHTTPServer):
    """Serve a folder at ``url``.

    With a ``backend``, the paths of a STAC API go there. Paths below ``/private`` want a token.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults: list[Fault] = []
        self.log: list[Request] = []
        self.tokens: set[str] = set()
        self.backend: str | None = None
        self.claims: list[str] = []  # conformance classes that the API names beyond its own
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def pixel_requests(self) -> list[Request]:
        """What was asked of rasters since the log was last cleared."""
        return [request for request in self.log if request.path.endswith((".tif", ".jp2"))]

    def reset(self) -> None:
        """No faults, no tokens, no claims, an empty log."""
        self.faults.clear()
        self.tokens.clear()
        self.claims.clear()
        self.log.clear()

    def note(self, request: Request) -> None:
        with self._lock:
            self.log.append(request)

    def next_fault(self, path: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if re.search(fault.path, path) and fault.times != 0:
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None

    def handle_error(self, request, client_address) -> None:
        """Clients hang up on slow answers; that is no news."""


class _Handler(RangeRequestHandler):
    server: Loopback
    protocol_version = "HTTP/1.1"
    range = None
    _cut = _short = False

    def translate_path(self, path: str) -> str:
        self.directory = str(self.server.folder)
        return super().translate_path(path.removeprefix("/private"))

    def do_GET(self) -> None:
        self._serve("GET")

    def do_HEAD(self) -> None:
        self._serve("HEAD")

    def do_POST(self) -> None:
        self._serve("POST")

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def send_response(self, code: int, message: str | None = None) -> None:
        where = urlparse(self.path).path
        self.server.note(Request(self.command, where, self.headers.get("Range"), code))
        super().send_response(code, message)

    def send_header(self, keyword: str, value: str) -> None:
        if keyword == "Content-Length" and self._short:
            value = str(int(value) // 2)
        super().send_header(keyword, value)

    def copyfile(self, source, outputfile) -> None:
        if not (self._cut or self._short):
            super().copyfile(source, outputfile)
            return
        size = os.fstat(source.fileno()).st_size
        start, stop = self.range or (0, size - 1)
        source.seek(start)
        outputfile.write(source.read((min(size - 1 if stop is None else stop, size - 1) - start + 1) // 2))
        if self._cut:
            self.close_connection = True
            self.connection.close()

    def _serve(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        where = urlparse(self.path)
        fault = self.server.next_fault(where.path)
        self._cut, self._short = bool(fault and fault.cut), bool(fault and fault.short)
        if fault and fault.slow:
            time.sleep(fault.slow)
        if fault and fault.status:
            self._answer(fault.status, b"told to fail", fault.headers)
        elif fault and fault.body is not None:
            self._answer(200, fault.body.encode(), {"Content-Type": "text/html"})
        elif self.server.backend and _API.fullmatch(where.path):
            self._forward(method, body)
        elif where.path.startswith("/private") and not self.server.tokens & set(
            parse_qs(where.query).get("sig", [])
        ):
            self._answer(403, b"no valid token", {})
        elif method == "HEAD":
            super().do_HEAD()
        else:
            super().do_GET()

    def _forward(self, method: str, body: bytes) -> None:
        if self.server.claims and body:
            # What is claimed is not done: the memory backend behind us knows none of it.
            body = json.dumps({k: v for k, v in json.loads(body).items() if k != "query"}).encode()
        request = urllib.request.Request(self.server.backend + self.path, data=body or None, method=method)
        if body:
            request.add_header("Content-Type", self.headers.get("Content-Type", "application/json"))
        try:
            with urllib.request.urlopen(request) as answer:
                said = answer.read()
                if self.path == "/" and self.server.claims:
                    root = json.loads(said)
                    root["conformsTo"] += self.server.claims
                    said = json.dumps(root).encode()
                self._answer(answer.status, said, {"Content-Type": answer.headers["Content-Type"]})
        except HTTPError as error:
            self._answer(error.code, error.read(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if self._cut else body)
        if self._cut:
            self.close_connection = True
