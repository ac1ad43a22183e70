"""The loopback hub of hub_server.py, and the part of the protocol that publishing needs.

whoami, making a repository or a branch, checking a card, upload modes, the LFS batch with a PUT to
the second server and its verification, commits as lines of JSON. Xet storage is not served: set
HF_HUB_DISABLE_XET.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import hub_server
import yaml
from hub_server import LFS_BYTES, Hub, Repo, Request, git_sha1

TOKEN = "hf_loopbackloopback"


class UploadHub(Hub):
    """What is told and kept beside what the base class has."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = {TOKEN}
        #: Owners that the token may write for.
        self.owners = {"ann", "lab"}
        self.role = "write"
        #: SHA-256 -> content, as the store of large files has them, committed or not.
        self.large: dict[str, bytes] = {}
        #: Size of the parts in which a large file is asked for; None: in one.
        self.part_bytes: int | None = None
        self.parts: dict[str, bytes] = {}
        #: Bytes after which the next upload is cut off, once each.
        self.upload_cuts: list[int] = []
        #: (part of a URL, seconds): an answer that comes late, each time.
        self.late: tuple[str, float] | None = None
        #: Bodies of what was posted, by the last part of the path.
        self.posted: dict[str, list[Any]] = {}
        #: What the server says beside an error's status.
        self.words = ""

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        """Return path -> content of a repository."""
        repo = self.repos[name]
        return repo.commits[repo.refs[revision]]


class UploadHandler(hub_server.Handler):
    """Answers to what is published."""

    hub: UploadHub

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        if self.hub.late is not None and self.hub.late[0] in path:
            time.sleep(self.hub.late[1])
        if self.command == "GET" and path != "/api/whoami-v2":
            return super()._answer()
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.requests.append(Request(self.command, self.path, headers, self.kind))
        if self.command == "HEAD":
            self.hub.requests.pop()
            return super()._answer()
        body = self._body() if self.command != "GET" else b""
        for index, (part, status) in enumerate(self.hub.failures):
            if part in path:
                del self.hub.failures[index]
                return self._refuse(status, self.hub.words)
        if self.kind == "cdn" and path.startswith("/part/"):
            self.hub.parts[path] = body
            return self._send(200, b"", {"ETag": hashlib.md5(body).hexdigest()})
        if self.kind == "cdn":
            return self._store(path.rpartition("/")[2], body)
        if path.startswith("/lfs/complete/"):  # the client sends no token here
            return self._join(path.rpartition("/")[2], json.loads(body))
        if headers.get("authorization", "").removeprefix("Bearer ") not in self.hub.tokens:
            return self._refuse(401, "Invalid user token.")
        parts = [unquote(part) for part in path.strip("/").split("/")]
        last = parts[-1] if parts[-1] in ("create", "batch", "verify") else parts[-2]
        posted = [json.loads(line) for line in body.splitlines()] if body else []
        self.hub.posted.setdefault(last, []).append(posted)
        return self._serve(parts, posted)

    def _serve(self, parts: list[str], posted: list[Any]) -> None:
        if parts == ["api", "whoami-v2"]:
            auth = {"accessToken": {"displayName": "test", "role": self.hub.role}}
            return self._json({"name": "ann", "orgs": [{"name": "lab"}], "auth": auth})
        if parts == ["api", "validate-yaml"]:
            return self._validate(posted[0]["content"])
        if parts == ["api", "repos", "create"]:
            return self._create(posted[0])
        if parts[-3:] == ["lfs", "objects", "batch"]:
            return self._batch(posted[0])
        if parts[-1] == "verify":
            known = self.hub.large.get(posted[0]["oid"], b"")
            return self._json({}, 200 if len(known) == posted[0]["size"] else 422)
        repo = self.hub.repos["/".join(parts[2:4])]
        what, revision = parts[4], parts[5]
        if what == "branch":
            if revision in repo.refs:
                return self._refuse(409, "Reference already exists")
            repo.refs[revision] = repo.refs["main"]
            return self._json({})
        if revision not in repo.refs:
            return self._refuse(404, "Invalid rev id", code="RevisionNotFound")
        there = repo.commits[repo.refs[revision]]
        if what == "preupload":
            return self._json({"files": [self._mode(one, there) for one in posted[0]["files"]]})
        return self._commit("/".join(parts[2:4]), repo, revision, posted)

    def _create(self, asked: dict[str, Any]) -> None:
        owner = asked.get("organization") or "ann"
        name = f"{owner}/{asked['name']}"
        if owner not in self.hub.owners:
            return self._refuse(403, f"You don't have the rights to create under {owner}")
        if name in self.hub.repos:
            answer = {
                "error": "You already created this repo",
                "url": f"{self.hub.endpoint}/{name}",
            }
            return self._json(answer, 409)
        self.hub.commit(name, {".gitattributes": b"*.safetensors filter=lfs\n"})
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.repos[name].private = private
        return self._json({"url": f"{self.hub.endpoint}/{name}"})

    def _validate(self, card: str) -> None:
        _, front, _ = card.split("---\n", 2)
        try:
            yaml.safe_load(front)
        except yaml.YAMLError as error:
            return self._json({"errors": [{"message": str(error)}], "warnings": []}, 400)
        return self._json({"errors": [], "warnings": []})

    def _mode(self, one: dict[str, Any], there: dict[str, bytes]) -> dict[str, Any]:
        large = one["size"] >= LFS_BYTES
        old = there.get(one["path"])
        oid = None if old is None else hashlib.sha256(old).hexdigest() if large else git_sha1(old)
        return {"path": one["path"], "uploadMode": "lfs" if large else "regular",
                "shouldIgnore": False, "oid": oid}  # fmt: skip

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = []
        for one in asked["objects"]:
            answer = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.hub.large:
                verify = {"href": f"{self.hub.endpoint}/lfs/verify"}
                upload: dict[str, Any] = {"href": f"{self.hub.cdn}/upload/{one['oid']}"}
                if size := self.hub.part_bytes:
                    parts = range(1, -(-one["size"] // size) + 1)
                    header = {str(part): f"{self.hub.cdn}/part/{one['oid']}/{part}"
                              for part in parts}  # fmt: skip
                    upload = {"href": f"{self.hub.endpoint}/lfs/complete/{one['oid']}",
                              "header": header | {"chunk_size": str(size)}}  # fmt: skip
                answer["actions"] = {"upload": upload, "verify": verify}
            objects.append(answer)
        self._json({"transfer": "basic", "objects": objects})

    def _join(self, oid: str, asked: dict[str, Any]) -> None:
        pieces = [self.hub.parts[f"/part/{oid}/{part['partNumber']}"] for part in asked["parts"]]
        tags = [hashlib.md5(piece).hexdigest() for piece in pieces]
        whole = b"".join(pieces)
        right = hashlib.sha256(whole).hexdigest() == oid
        if not right or tags != [part["etag"] for part in asked["parts"]]:
            return self._refuse(400, "parts do not fit")
        self.hub.large[oid] = whole
        return self._json({})

    def _store(self, oid: str, body: bytes) -> None:
        if hashlib.sha256(body).hexdigest() == oid:
            self.hub.large[oid] = body
            return self._send(200, b"")
        with contextlib.suppress(OSError):  # it was cut
            self.connection.shutdown(2)
        self.close_connection = True
        return None

    def _commit(self, name: str, repo: Repo, revision: str, posted: list[Any]) -> None:
        files = dict(repo.commits[repo.refs[revision]])
        for line in posted[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        refs = dict(repo.refs)
        commit = self.hub.commit(name, files)
        repo.refs = refs | {revision: commit}
        self._json({"commitUrl": f"{self.hub.endpoint}/{name}/commit/{commit}",
                    "commitOid": commit, "pullRequestUrl": None})  # fmt: skip

    def _body(self) -> bytes:
        length = int(self.headers.get("Content-Length") or 0)
        if self.command == "PUT" and self.hub.upload_cuts:
            return self.rfile.read(min(length, self.hub.upload_cuts.pop(0)))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(length)

    def _json(self, answer: dict[str, Any], status: int = 200) -> None:
        self._send(status, json.dumps(answer).encode())

    def _refuse(self, status: int, words: str, code: str = "") -> None:
        headers = {"X-Error-Code": code} if code else {}
        self._send(status, json.dumps({"error": words}).encode(), headers)


@contextlib.contextmanager
def running() -> Iterator[UploadHub]:
    """Serve an empty hub until the end of the block."""
    with hub_server.running(UploadHub(), UploadHandler) as hub:
        assert isinstance(hub, UploadHub)
        yield hub
