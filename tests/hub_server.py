"""A Hugging Face hub on loopback: the part of its protocol that downloading a data set needs.

Repositories with revisions, the API's info and tree (by pages), `resolve` with ETag, commit, Range
and a redirect to a second server for LFS files, as the hub's CDN. It writes down every request, and
can be told to cut connections, refuse, answer 503 or be slow.

    with hub_server.running() as hub:
        commit = hub.commit("owner/name", {"data/train-00000-of-00001.parquet": b"..."})
        subprocess.run([...], env=os.environ | hub.environment(tmp_path))
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

#: As on the hub, large files are not in git.
LFS_BYTES = 10_000


@dataclasses.dataclass
class Repo:
    """A data set: branch or tag -> commit, commit -> path -> bytes."""

    refs: dict[str, str] = dataclasses.field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = dataclasses.field(default_factory=dict)
    gated: bool = False
    private: bool = False


@dataclasses.dataclass(frozen=True)
class Request:
    """What came in, on the hub or on its CDN."""

    method: str
    path: str
    headers: dict[str, str]
    server: str


class Hub:
    """What the servers tell; change it between requests as you like."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.requests: list[Request] = []
        self.endpoint = ""
        self.cdn = ""
        #: Tokens that are accepted, and see private and gated repositories.
        self.tokens: set[str] = set()
        #: Path of a file -> bytes after which its next download is cut, once each.
        self.cuts: dict[str, list[int]] = {}
        #: (part of a URL, status): answered once each.
        self.failures: list[tuple[str, int]] = []
        #: Seconds before an answer to the API.
        self.api_delay_s = 0.0
        #: Of file contents; None: as fast as it goes.
        self.bytes_per_s: float | None = None
        #: Whether files are sent in part when asked.
        self.ranges = True
        #: Entries of a tree per page.
        self.page = 1000
        #: Whether LFS files are said to be in Xet storage too (which is not served here).
        self.xet = False
        #: (name, commit): what `main` means from the next listing on.
        self.moves: tuple[str, str] | None = None
        #: The API's answers are this instead.
        self.portal: bytes | None = None

    def commit(self, name: str, files: dict[str, bytes], *refs: str) -> str:
        """Add a commit and let `main` (and other refs) mean it; return its hash."""
        repo = self.repos.setdefault(name, Repo())
        parts = [f"{path} {hashlib.sha1(data).hexdigest()}" for path, data in sorted(files.items())]
        commit = hashlib.sha1("\n".join([name, *parts]).encode()).hexdigest()
        repo.commits[commit] = files
        repo.refs |= dict.fromkeys(("main", *refs), commit)
        return commit

    def environment(self, home: Path) -> dict[str, str]:
        """Return what a process needs to take this for the hub, with its cache in `home`."""
        return {
            "HF_ENDPOINT": self.endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0",
            "TRANSFORMERS_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "",
            "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
        }  # fmt: skip

    def asked(self, part: str, method: str = "GET") -> list[Request]:
        """Return the requests so far whose path holds `part`."""
        return [r for r in self.requests if part in r.path and r.method == method]


@contextlib.contextmanager
def running(hub: Hub | None = None, answers: type[Handler] | None = None) -> Iterator[Hub]:
    """Serve an empty hub until the end of the block; or another one, with other answers."""
    hub = hub or Hub()
    servers = []
    for kind in ("hub", "cdn"):
        handler = type("Handler", (answers or Handler,), {"hub": hub, "kind": kind})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
    hub.endpoint, hub.cdn = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def git_sha1(data: bytes) -> str:
    """Return the hash that git, and so the hub, gives to a file."""
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers to what is downloaded."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every answer waits 40 ms for an acknowledgement
    hub: Hub
    kind: str

    def log_message(self, *_: object) -> None:
        """Say nothing on standard error."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.requests.append(Request(self.command, self.path, headers, self.kind))
        for index, (part, status) in enumerate(self.hub.failures):
            if part in self.path:
                del self.hub.failures[index]
                return self._send(status, b"{}")
        url = urlsplit(self.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        if self.kind == "cdn":
            repo, commit, path = parts[0] + "/" + parts[1], parts[2], "/".join(parts[3:])
            return self._content(path, self.hub.repos[repo].commits[commit][path], {})
        if parts[:2] in (["api", "datasets"], ["api", "models"]):
            return self._api(parts[2:], parse_qs(url.query))
        if parts[2:3] == ["resolve"]:  # of models, which have no word before their names
            return self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        if parts[0] == "datasets" and parts[3:4] == ["resolve"]:
            return self._resolve("/".join(parts[1:3]), parts[4], "/".join(parts[5:]))
        return self._send(404, b"{}")

    def _find(self, name: str, revision: str) -> tuple[Repo, str] | None:
        """Return repository and commit, or answer why not, in the hub's words."""
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        repo = self.hub.repos.get(name)
        if given and given not in self.hub.tokens:
            message = "Invalid credentials in Authorization header"
            self._send(401, b"{}", {"X-Error-Message": message})
        elif repo is None or (repo.private and not given):
            code = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
            self._send(404 if given else 401, b'{"error": "Repository not found"}', code)
        elif (commit := repo.refs.get(revision, revision)) not in repo.commits:
            code = {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"}
            self._send(404, b'{"error": "Invalid rev id"}', code)
        else:
            return repo, commit
        return None

    def _api(self, parts: list[str], query: dict[str, list[str]]) -> None:
        time.sleep(self.hub.api_delay_s)
        if self.hub.portal is not None:
            return self._send(200, self.hub.portal, {"Content-Type": "text/html"})
        name, verb, *rest = "/".join(parts[:2]), *(parts[2:] or ["revision", "main"])
        found = self._find(name, rest[0] if rest else "main")
        if found is None:
            return None
        repo, commit = found
        files = repo.commits[commit]
        if verb == "revision":
            info: dict[str, Any] = {"_id": "0" * 24, "id": name, "sha": commit}
            if "expand" not in query:
                info |= {"private": repo.private, "gated": repo.gated, "disabled": False}
                info |= {"tags": [], "downloads": 0, "likes": 0}
                info["siblings"] = [{"rfilename": path} for path in files]
            return self._send(200, json.dumps(info).encode())
        if self.hub.moves is not None:
            self.hub.repos[self.hub.moves[0]].refs["main"] = self.hub.moves[1]
        folders = {str(f) for path in files for f in Path(path).parents} - {"."}
        entries: list[dict[str, Any]] = [
            {"type": "directory", "oid": "0" * 40, "size": 0, "path": folder}
            for folder in sorted(folders)
        ]
        for path, data in files.items():
            entries.append({"type": "file", "oid": git_sha1(data), "size": len(data), "path": path})
            if len(data) >= LFS_BYTES:
                sha256 = hashlib.sha256(data).hexdigest()
                entries[-1]["lfs"] = {"oid": sha256, "size": len(data), "pointerSize": 134}
                entries[-1] |= {"xetHash": sha256} if self.hub.xet else {}
        start = int(query.get("cursor", ["0"])[0])
        headers = {}
        if start + self.hub.page < len(entries):
            address = f"{self.hub.endpoint}{urlsplit(self.path).path}?recursive=True&cursor="
            headers["Link"] = f'<{address}{start + self.hub.page}>; rel="next"'
        return self._send(200, json.dumps(entries[start : start + self.hub.page]).encode(), headers)

    def _resolve(self, name: str, revision: str, path: str) -> None:
        found = self._find(name, revision)
        if found is None:
            return None
        repo, commit = found
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if repo.gated and not self.headers.get("Authorization"):
            message = f"Access to dataset {name} is restricted."
            headers |= {"X-Error-Code": "GatedRepo", "X-Error-Message": message}
            return self._send(401, b"{}", headers)
        if path not in repo.commits[commit]:
            return self._send(404, b"{}", headers | {"X-Error-Code": "EntryNotFound"})
        data = repo.commits[commit][path]
        if len(data) < LFS_BYTES:
            return self._content(path, data, headers | {"ETag": f'"{git_sha1(data)}"'})
        headers["X-Linked-ETag"] = f'"{hashlib.sha256(data).hexdigest()}"'
        headers["X-Linked-Size"] = str(len(data))
        headers["Location"] = f"{self.hub.cdn}/{name}/{commit}/{path}?signature=abc"
        return self._send(302, b"", headers)

    def _content(self, path: str, data: bytes, headers: dict[str, str]) -> None:
        start, asked = 0, re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and self.hub.ranges:
            start = int(asked[1])
            if start >= len(data):
                return self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            headers |= {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        cuts = self.hub.cuts.get(path, []) if self.command == "GET" else []
        end = min(len(data), start + cuts.pop(0)) if cuts else len(data)
        self.send_response(206 if start else 200)
        for key, value in (headers | {"Content-Length": str(len(data) - start)}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            with contextlib.suppress(ConnectionError):
                self._pour(data[start:end])
        if end < len(data):
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(2)
        return None

    def _pour(self, data: bytes) -> None:
        piece = 1 << 16 if self.hub.bytes_per_s else len(data)
        for start in range(0, len(data), piece or 1):
            self.wfile.write(data[start : start + piece])
            if self.hub.bytes_per_s:
                time.sleep(piece / self.hub.bytes_per_s)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        kind = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        for key, value in (kind | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)
