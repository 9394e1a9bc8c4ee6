"""The Hugging Face Hub in small: the requests of pushing and pulling, with repositories in memory."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


class HubServer(ThreadingHTTPServer):
    """Repositories by name, each a list of commits, and each of those the files by path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.repositories: dict[str, list[dict[str, bytes]]] = {}
        self.private: set[str] = set()
        self.large_files: dict[str, bytes] = {}
        self.fetched: list[str] = []

    def commit_of(self, repository: str, revision: str) -> int:
        """Number of the commit that a revision means."""
        last = len(self.repositories[repository]) - 1
        return last if revision == "main" else next(n for n in range(last + 1) if sha(n) == revision)


def sha(number: int) -> str:
    return hashlib.sha1(str(number).encode()).hexdigest()


@contextmanager
def serving() -> Iterator[HubServer]:
    with HubServer() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    """Answers one client; writing needs the token "secret"."""

    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_POST(self) -> None:
        path, body = urlsplit(self.path).path, self._body()
        if self.headers.get("Authorization") != "Bearer secret":
            return self._answer({"error": "Invalid username or password."}, 401)
        if path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted['organization']}/{wanted['name']}"
            if name in self.server.repositories:  # and stays as visible as it is
                return self._answer(
                    {"error": "You already created this", "url": f"{self.server.url}/{name}"}, 409
                )
            if wanted.get("visibility") == "private" or wanted.get("private"):
                self.server.private.add(name)
            self.server.repositories.setdefault(name, [{".gitattributes": b""}])
            return self._answer({"url": f"{self.server.url}/{name}"})
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [self._upload(file) for file in json.loads(body)["objects"]]
            return self._answer({"transfer": "basic", "objects": objects})
        name, action = "/".join(path.split("/")[3:5]), path.split("/")[5]
        if action == "preupload":
            files = [self._mode(file["path"]) for file in json.loads(body)["files"]]
            return self._answer({"files": files})
        assert action == "commit", path
        self._commit(name, [json.loads(line) for line in body.splitlines()])
        number = len(self.server.repositories[name]) - 1
        url = f"{self.server.url}/{name}/commit/{sha(number)}"
        return self._answer({"success": True, "commitOid": sha(number), "commitUrl": url})

    def do_PUT(self) -> None:
        oid, body = self.path.rpartition("/")[2], self._body()
        assert hashlib.sha256(body).hexdigest() == oid
        self.server.large_files[oid] = body
        self._answer({})

    def do_GET(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        kind = parts[0] if parts[0] == "api" else "resolve"
        name = "/".join(parts[2:4] if kind == "api" else parts[:2])
        allowed = name not in self.server.private or self.headers.get("Authorization") == "Bearer secret"
        if name not in self.server.repositories or not allowed:
            return self._answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        if kind == "resolve":
            return self._file(name, parts[3], "/".join(parts[4:]))
        number = self.server.commit_of(name, parts[5] if len(parts) > 5 else "main")
        files = self.server.repositories[name][number]
        if len(parts) > 4 and parts[4] == "tree":
            rows = [{"type": "file", "path": path, "size": len(files[path]), "oid": "0"} for path in files]
            return self._answer(rows)
        siblings, private = [{"rfilename": path} for path in files], name in self.server.private
        return self._answer({"id": name, "sha": sha(number), "private": private, "siblings": siblings})

    do_HEAD = do_GET

    def _file(self, name: str, revision: str, path: str) -> None:
        number = self.server.commit_of(name, revision)
        content = self.server.repositories[name][number][path]
        self.server.fetched.append(path)
        headers = {"X-Repo-Commit": sha(number), "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        self._answer(content, 200, headers)

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        files = dict(self.server.repositories[name][-1])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.large_files[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        self.server.repositories[name].append(files)

    def _upload(self, file: dict[str, Any]) -> dict[str, Any]:
        return {**file, "actions": {"upload": {"href": f"{self.server.url}/large/{file['oid']}"}}}

    def _mode(self, path: str) -> dict[str, Any]:
        mode = "lfs" if path.endswith(".safetensors") else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": None}

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
