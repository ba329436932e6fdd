"""A small Hub on this machine: it speaks what huggingface_hub says when it creates, fills and reads repositories."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OWNER = "me"
TOKEN = "hf_a_token_for_tests"


@dataclass
class Repository:
    """A repository: the files of each branch and pull request, and the messages of its commits."""

    private: bool = False
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})
    commits: list[tuple[str, str, str]] = field(default_factory=list)


@dataclass
class Hub:
    """What the server holds, and how it misbehaves.

    Attributes:
        repositories: By full name.
        requests: What was asked, in order: "POST /api/repos/create".
        drop: Requests that match this are dropped without an answer, as often as `drops` says.
        drops: How often.
        answer_lost: Whether what was asked is done before the connection is dropped.
        refuse: Requests that match this are answered with this status instead.
        status: That status.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    drop: str = "^$"
    drops: int = 0
    answer_lost: bool = False
    refuse: str = "^$"
    status: int = 500
    url: str = ""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def files(self, repo_id: str, branch: str = "main") -> dict[str, bytes]:
        """The files of a branch."""
        return self.repositories[repo_id].branches[branch]


def digests(files: dict[str, bytes]) -> dict[str, str]:
    """What to compare files by, so that a failed test says at once which of them differ."""
    return {path: hashlib.sha1(content).hexdigest() for path, content in files.items()}


def commit_of(branch: str) -> str:
    """The id of a branch's last commit; here always the same."""
    return hashlib.sha1(branch.encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args: Any) -> None:
        """Nothing is printed."""

    def do_POST(self) -> None:
        self._handle("POST")

    def do_PUT(self) -> None:
        self._handle("PUT")

    def do_GET(self) -> None:
        self._handle("GET")

    def do_HEAD(self) -> None:
        self._handle("HEAD")

    def _handle(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        request = f"{method} {self.path}"
        with self.hub.lock:
            self.hub.requests.append(request)
            is_dropped = self.hub.drops > 0 and re.search(self.hub.drop, request) is not None
            if is_dropped:
                self.hub.drops -= 1
                if not self.hub.answer_lost:
                    self._hang_up()
                    return
            if re.search(self.hub.refuse, request):
                status, answer = self.hub.status, {"error": "refused for the test"}
            elif path.startswith("/api") and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                status, answer = 401, {"error": "unauthorised"}
            else:
                status, answer = self._answer(method, path, body)
        if is_dropped:
            self._hang_up()
            return
        self._send(status, answer)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, status: int, answer: Any) -> None:
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status == 404:
            self.send_header("X-Error-Code", "EntryNotFound")
        if status == 200 and self.command in ("HEAD", "GET"):
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", getattr(self, "commit", "0" * 40))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        routes = {
            r"POST /api/repos/create": self._create,
            r"POST /api/validate-yaml": lambda body: (200, {"errors": [], "warnings": []}),
            r"POST /api/models/(\w+/[\w.-]+)/branch/([\w.-]+)": self._branch,
            r"POST /api/models/(\w+/[\w.-]+)/preupload/([\w.-]+)": self._preupload,
            r"POST /api/models/(\w+/[\w.-]+)/commit/([\w.-]+)": self._commit,
            r"GET /api/models/(\w+/[\w.-]+)/revision/([\w./%-]+)": self._info,
            r"GET /api/models/(\w+/[\w.-]+)/tree/([\w./%-]+)": self._tree,
            r"POST /(\w+/[\w.-]+)\.git/info/lfs/objects/batch": self._batch,
            r"PUT /objects/(\w+)": self._store,
            r"(?:HEAD|GET) /(\w+/[\w.-]+)/resolve/([\w.%-]+)/(.+)": self._file,
        }
        for pattern, answer in routes.items():
            if (found := re.fullmatch(pattern, f"{method} {path}")) is not None:
                if found.groups() and "/" in found[1] and found[1] not in self.hub.repositories:
                    return 404, {"error": "no such repository"}
                result: tuple[int, Any] = answer(*found.groups(), body)  # type: ignore[operator]
                return result
        return 404, {"error": f"{method} {path} is not known here"}

    def _create(self, body: bytes) -> tuple[int, Any]:
        asked = json.loads(body)
        name = f"{asked.get('organization') or OWNER}/{asked['name']}"
        answer = {"url": f"{self.hub.url}/{name}", "name": name, "id": name}
        if name in self.hub.repositories:
            return 409, answer | {"error": "You already created this model repo"}
        is_private = asked.get("private") or asked.get("visibility") == "private"
        self.hub.repositories[name] = Repository(private=bool(is_private))
        return 200, answer

    def _branch(self, repo: str, branch: str, body: bytes) -> tuple[int, Any]:
        branches = self.hub.repositories[repo].branches
        if branch in branches:
            return 409, {"error": "branch exists"}
        branches[branch] = dict(branches["main"])
        return 200, {}

    def _preupload(self, repo: str, branch: str, body: bytes) -> tuple[int, Any]:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs"
                if file["path"].endswith((".safetensors", ".bin", ".pt", ".pth"))
                else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in json.loads(body)["files"]
        ]
        return 200, {"files": files}

    def _batch(self, repo: str, body: bytes) -> tuple[int, Any]:
        objects = []
        for wanted in json.loads(body)["objects"]:
            upload = {"upload": {"href": f"{self.hub.url}/objects/{wanted['oid']}"}}
            known = wanted["oid"] in self.hub.objects
            objects.append(wanted if known else wanted | {"actions": upload})
        return 200, {"transfer": "basic", "objects": objects}

    def _store(self, oid: str, body: bytes) -> tuple[int, Any]:
        if hashlib.sha256(body).hexdigest() != oid:
            return 400, {"error": "the content is not what was announced"}
        self.hub.objects[oid] = body
        return 200, {}

    def _commit(self, repo: str, branch: str, body: bytes) -> tuple[int, Any]:
        repository = self.hub.repositories[repo]
        is_pull_request = "create_pr=1" in self.path
        target = f"refs/pr/{len(repository.branches)}" if is_pull_request else branch
        files = repository.branches.setdefault(target, dict(repository.branches["main"]))
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                repository.commits.append((target, value["summary"], value.get("description", "")))
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            else:
                return 400, {"error": f"{entry['key']} is not known here"}
        oid = hashlib.sha1(str(len(repository.commits)).encode()).hexdigest()
        answer = {"commitUrl": f"{self.hub.url}/{repo}/commit/{oid}", "commitOid": oid, "success": True}
        if is_pull_request:
            answer["pullRequestUrl"] = f"{self.hub.url}/{repo}/discussions/1"
        return 200, answer

    def _info(self, repo: str, revision: str, body: bytes) -> tuple[int, Any]:
        branch = self._branch_of(repo, revision)
        if branch is None:
            return 404, {"error": "Invalid rev id"}
        files = [{"rfilename": path} for path in self.hub.files(repo, branch)]
        return 200, {"id": repo, "sha": commit_of(branch), "siblings": files}

    def _tree(self, repo: str, revision: str, body: bytes) -> tuple[int, Any]:
        branch = self._branch_of(repo, revision)
        if branch is None:
            return 404, {"error": "Invalid rev id"}
        files = self.hub.files(repo, branch).items()
        return 200, [{"type": "file", "path": path, "size": len(data), "oid": path} for path, data in files]

    def _file(self, repo: str, revision: str, path: str, body: bytes) -> tuple[int, Any]:
        branch = self._branch_of(repo, revision)
        files = {} if branch is None else self.hub.files(repo, branch)
        self.commit = commit_of(branch or "main")
        return (200, files[path]) if path in files else (404, {"error": "Entry not found"})

    def _branch_of(self, repo: str, revision: str) -> str | None:
        """The branch of this name, or whose last commit it is."""
        branches = self.hub.repositories[repo].branches
        return next((name for name in branches if revision in (name, commit_of(name))), None)


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A Hub that listens on a free port of this machine."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
