"""A Hugging Face hub on this computer: takes what the real client uploads, and gives it back."""

import base64
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

TOKEN = "hf_token_of_ada"


class Hub(http.server.ThreadingHTTPServer):
    """Models by name, each a file by its path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.models: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.blobs: dict[str, bytes] = {}


@contextmanager
def hub() -> Iterator[Hub]:
    """Serve until the block ends."""
    server = Hub()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        if self.path == "/api/whoami-v2":
            return self._known() and self._json({"name": "ada", "type": "user"})
        if self.path.startswith("/api/models/"):
            return self._tell_of("/".join(self.path.split("?")[0].split("/")[3:5]))
        model, found, file = self.path[1:].partition("/resolve/main/")
        data = self.server.models.get(model, {}).get(file) if found else None
        if data is None:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        digest = hashlib.sha256(data).hexdigest()
        return self._send(200, data, {"ETag": f'"{digest}"', "X-Repo-Commit": "0" * 40})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        body = self._body()
        if self.path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if not self._known():
            return None
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization', 'ada')}/{asked['name']}"
            url = f"{self.server.address}/{name}"
            if name in self.server.models:  # as it is: also as private or public as it was
                return self._json({"error": "You already created this model repo", "url": url}, 409)
            self.server.models[name] = {}
            self.server.private[name] = bool(asked.get("private") or asked.get("visibility") == "private")
            return self._json({"url": url, "id": name, "name": name})
        if self.path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            large = {one["path"]: not one["path"].endswith((".md", ".json")) for one in files}
            said = [
                {
                    "path": path,
                    "uploadMode": "lfs" if is_large else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for path, is_large in large.items()
            ]
            return self._json({"files": said})
        if self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.server.address}/blobs/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return self._json({"transfer": "basic", "objects": objects})
        if self.path.endswith("/commit/main"):
            model = self.path.removeprefix("/api/models/").removesuffix("/commit/main")
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    self.server.models[model][value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "deletedFile":
                    del self.server.models[model][value["path"]]
                elif line["key"] == "lfsFile":
                    self.server.models[model][value["path"]] = self.server.blobs[value["oid"]]
            url = f"{self.server.address}/{model}/commit/{'0' * 40}"
            return self._json({"commitUrl": url, "commitOid": "0" * 40, "success": True})
        return self._send(404, b"")

    def do_PUT(self) -> None:
        data = self._body()
        self.server.blobs[hashlib.sha256(data).hexdigest()] = data
        self._send(200, b"")

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while length := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _known(self) -> bool:
        known = self._is_ada()
        if not known:
            self._send(401, b'{"error": "Invalid username or password."}')
        return known

    def _tell_of(self, model: str) -> None:
        files = self.server.models.get(model)
        if files is None or (self.server.private[model] and not self._is_ada()):
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        siblings = [{"rfilename": path} for path in files]
        tree = [
            {"type": "file", "path": path, "oid": "0" * 40, "size": len(data)} for path, data in files.items()
        ]
        about = {"id": model, "private": self.server.private[model], "sha": "0" * 40, "siblings": siblings}
        return self._json(tree if "/tree/" in self.path else about)

    def _is_ada(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _json(self, value: object, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass
