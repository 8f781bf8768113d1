"""A small Hugging Face Hub on this machine, which answers the client of ``huggingface_hub``."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_of_anna"


@dataclass
class Repository:
    """The files of the last commit."""

    visibility: str
    files: dict[str, bytes] = field(default_factory=dict)
    commits: int = 0

    @property
    def revision(self) -> str:
        return f"{self.commits:040x}"


class Hub(ThreadingHTTPServer):
    """Repositories in memory; weights are uploaded as Git LFS does, other files with the commit."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[str, Repository] = {}
        self.uploads: dict[str, bytes] = {}


@contextmanager
def running_hub() -> Iterator[Hub]:
    with Hub() as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        yield hub
        hub.shutdown()


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def answer(self, content: Any, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        first, *others = map(json.loads, self.body().splitlines())
        address, repositories = self.server.address, self.server.repositories
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self.answer({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            name = f"{first['organization']}/{first['name']}"
            status = 409 if name in repositories else 200
            repositories.setdefault(name, Repository(first["visibility"]))
            self.answer({"url": f"{address}/{name}"}, status)
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            modes = {each["path"]: "regular" for each in first["files"]} | {"model.safetensors": "lfs"}
            self.answer(
                {"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]}
            )
        elif self.path.endswith("/info/lfs/objects/batch"):
            actions = {"upload": {"href": f"{address}/upload"}}
            self.answer({"objects": [{**each, "actions": actions} for each in first["objects"]]})
        else:
            name = self.path.removeprefix("/api/models/").removesuffix("/commit/main")
            repository = repositories[name]
            for line in others:
                self.change(repository.files, line["key"], **line["value"])
            repository.commits += 1
            url = f"{address}/{name}/commit/{repository.revision}"
            self.answer({"commitUrl": url, "commitOid": repository.revision})

    def change(self, files: dict[str, bytes], key: str, path: str, **value: Any) -> None:
        if key == "deletedFile":
            del files[path]
        else:
            by_lfs = key == "lfsFile"
            files[path] = self.server.uploads[value["oid"]] if by_lfs else base64.b64decode(value["content"])

    def do_PUT(self) -> None:
        content = self.body()
        self.server.uploads[hashlib.sha256(content).hexdigest()] = content
        self.answer({})

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].removeprefix("/api/models")
        # The client also asks for addresses of other kinds, which this Hub does not have.
        owner, name, what, *_ = [*path.split("/")[1:], "", ""]
        repository = self.server.repositories.get(f"{owner}/{name}")
        if repository is None:
            self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
        elif what == "revision":
            self.answer({"id": f"{owner}/{name}", "sha": repository.revision})
        elif what == "tree":
            files = repository.files.items()
            self.answer([{"type": "file", "path": p, "size": len(c), "oid": _git_id(c)} for p, c in files])
        else:
            content = repository.files[path.rpartition("/")[2]]
            self.answer(content, ETag=f'"{_git_id(content)}"', X_Repo_Commit=repository.revision)

    do_HEAD = do_GET


def _git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
