"""A Hugging Face hub on loopback: it gives out the files of a folder, as the real client asks for them."""

from __future__ import annotations

import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

__all__ = ["COMMIT", "Hub", "lay_out_cache"]

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<filename>.+)")


class Hub(ThreadingHTTPServer):
    """Repositories are folders ``owner/name`` below ``folder``; each has one commit, known by ``revisions``.

    ``broken`` makes every answer hang up half way; ``gated`` names repositories that want a token.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.revisions = {"main": COMMIT, "v1.0": COMMIT, COMMIT: COMMIT}
        self.gated: set[str] = set()
        self.broken = False
        self.log: list[str] = []
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


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def _serve(self) -> None:
        self.server.log.append(f"{self.command} {self.path}")
        asked = _RESOLVE.fullmatch(self.path.partition("?")[0])
        if asked is None or not (self.server.folder / asked["repo"]).is_dir():
            self._refuse(404, "RepoNotFound")
        elif asked["repo"] in self.server.gated and "Authorization" not in self.headers:
            self._refuse(401, "GatedRepo")
        elif asked["revision"] not in self.server.revisions:
            self._refuse(404, "RevisionNotFound")
        elif not (file := self.server.folder / asked["repo"] / asked["filename"]).is_file():
            self._refuse(404, "EntryNotFound")
        else:
            self._give(file.read_bytes())

    def _give(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        # Large files are kept by their SHA-256, which the client takes as the name of its own copy.
        self.send_header("X-Linked-Etag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[: len(content) // 2] if self.server.broken else content)
            self.close_connection = self.server.broken

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", f"told so by the test: {code}")
        self.send_header("Content-Length", "0")
        self.end_headers()


def lay_out_cache(home: Path, repo: str, filename: str, content: bytes) -> Path:
    """A file in the client's cache folder as a download would have left it; the path of its blob."""
    folder = home / "hub" / f"models--{repo.replace('/', '--')}"
    blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
    snapshot = folder / "snapshots" / COMMIT / filename
    for path in (blob, snapshot, folder / "refs" / "main"):
        path.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    snapshot.symlink_to(blob)
    (folder / "refs" / "main").write_text(COMMIT)
    return blob
