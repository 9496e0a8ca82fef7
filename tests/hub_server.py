"""A small Hub for tests: `python hub_server.py FOLDER` serves FOLDER/models/OWNER/NAME and FOLDER/datasets/OWNER/NAME.

It prints its port, and then a line for each request. Every repository has one commit, COMMIT, named main.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/?]+)(/[^?]*)?)?")
FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/([^?]+)")
REVISIONS = ("main", COMMIT, None)


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length) or b"{}")
        match = API.fullmatch(self.path.partition("?")[0])
        folder = self._folder(match[1], match[2]) if match else None
        if folder is None:
            return self._send(404, b"{}")
        entries = [self._entry(folder, folder / name) for name in body.get("paths", []) if (folder / name).exists()]
        return self._json([entry for entry in entries if entry["path"] != "."])

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        if match := FILE.fullmatch(path):
            return self._file(match)
        if (match := API.fullmatch(path)) and (folder := self._folder(match[1], match[2])):
            return self._repository(folder, match)
        return self._missing("RepoNotFound")

    def _folder(self, kind: str, name: str) -> Path | None:
        folder = self.root / kind / name
        return folder if folder.is_dir() else None

    def _repository(self, folder: Path, match: re.Match[str]) -> None:
        if match[4] not in REVISIONS:
            return self._missing("RevisionNotFound")
        if match[3] == "tree":
            below = folder / (match[5] or "").strip("/")
            return self._json([self._entry(folder, path) for path in sorted(below.rglob("*"))])
        siblings = [{"rfilename": path.relative_to(folder).as_posix()} for path in _files(folder)]
        return self._json({"id": match[2], "sha": COMMIT, "private": False, "tags": [], "siblings": siblings})

    def _entry(self, folder: Path, path: Path) -> dict[str, Any]:
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            return {"type": "directory", "path": name, "oid": "0" * 40}
        return {"type": "file", "path": name, "size": path.stat().st_size, "oid": _etag(path)}

    def _file(self, match: re.Match[str]) -> None:
        folder = self._folder("datasets" if match[1] else "models", match[2])
        if folder is None or match[3] not in REVISIONS:
            return self._missing("RepoNotFound" if folder is None else "RevisionNotFound")
        path = folder / match[4]
        if not path.is_file():
            return self._missing("EntryNotFound")
        return self._send(200, path.read_bytes(), {"ETag": f'"{_etag(path)}"', "X-Repo-Commit": COMMIT})

    def _missing(self, code: str) -> None:
        self._send(404, b"{}", {"X-Error-Code": code})

    def _json(self, content: Any) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, form: str, *arguments: Any) -> None:
        print(form % arguments, flush=True)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    Hub.root = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    print(server.server_address[1], flush=True)
    server.serve_forever()
