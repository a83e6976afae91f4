# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Hugging Face hub for tests: a folder of repos, served over loopback to the real huggingface_hub client.

    with Hub(folder) as hub:          # folder/ORG/NAME/..., folder/NAME/...
        run(..., env={"HF_ENDPOINT": hub.endpoint})
    hub.asked("/resolve/")            # what was asked, and how many bytes were sent for it
    hub.fail("model.safetensors", times=2, cut_at=1000)      # faults, by a part of the path

The protocol is what huggingface_hub 2.4.0 speaks: model, revision, tree, paths-info and refs of the API, and resolve.
As on the real hub, weights are redirected to a storage of another origin, which must never see a token. Files may be
sparse: bytes are sent from the file and hashed only where that is cheap. A repo's commit follows from its files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import http.server
import json
import pathlib
import re
import threading
import time
import typing as t
import urllib.parse

# The real hub keeps files of these kinds in its storage, whatever their size, and others above 10 MB.
STORED = (".safetensors", ".gguf", ".bin", ".pt", ".pth")
# Larger files get a made-up hash: reading a sparse file of 700 GB would take an hour.
HASHED_BYTES = 1 << 26


@dataclasses.dataclass(frozen=True)
class Asked:
    """One request as it was answered. sent: bytes of the body. token: what stood behind "Bearer", if anything."""

    origin: t.Literal["hub", "storage"]
    method: str
    path: str
    range: str | None
    token: str | None
    status: int
    sent: int


@dataclasses.dataclass(frozen=True)
class Fault:
    """What is wrong with an answer. Positions are bytes of the file, whatever range of it is asked for.

    status: of a refusal, with retry_after (seconds) if given. cut_at: the connection ends there. wrong_at: this byte is
    another one. bytes_per_second: how slow it is. no_ranges: the whole file is sent whatever range is asked for.
    """

    status: int | None = None
    retry_after: str | None = None
    cut_at: int | None = None
    wrong_at: int | None = None
    bytes_per_second: int | None = None
    no_ranges: bool = False


@dataclasses.dataclass
class _Planned:
    part: str
    left: int
    fault: Fault


class Hub:
    """Serves the repos of a folder until it is left.

    gated: repos that are given to this token only; without any token the answer is 401, with another one 403.
    moved: former names of repos, which are answered by 307 to the present one. hashed_bytes: larger files get a made-up
    hash.
    """

    def __init__(
        self,
        root: pathlib.Path,
        gated: t.Mapping[str, str] | None = None,
        moved: t.Mapping[str, str] | None = None,
        hashed_bytes: int = HASHED_BYTES,
    ) -> None:
        self.root = root
        self.gated = gated or {}
        self.moved = moved or {}
        self.hashed_bytes = hashed_bytes
        self._planned: list[_Planned] = []
        self._requests: list[Asked] = []
        self._answering = 0
        self._change = threading.Condition()
        self._hub = _Server(self, "hub")
        self._storage = _Server(self, "storage")
        self.endpoint = f"http://127.0.0.1:{self._hub.server_address[1]}"
        self.storage = f"http://127.0.0.1:{self._storage.server_address[1]}"

    def __enter__(self) -> Hub:
        for server in (self._hub, self._storage):
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        for server in (self._hub, self._storage):
            server.shutdown()
            server.server_close()

    @property
    def requests(self) -> list[Asked]:
        """All requests in the order of their answers. A client can have its answer before we have noted it: we wait."""
        with self._change:
            assert self._change.wait_for(lambda: not self._answering, timeout=300), "a request is still being answered"
            return list(self._requests)

    @contextlib.contextmanager
    def answering(self) -> t.Iterator[list[Asked]]:
        """While a request is answered, which is then noted in the list."""
        with self._change:
            self._answering += 1
        try:
            yield self._requests
        finally:
            with self._change:
                self._answering -= 1
                self._change.notify_all()

    def asked(self, part: str = "") -> list[Asked]:
        """The requests whose path has this in it, in the order of their answers."""
        return [request for request in self.requests if part in request.path]

    def fail(self, part: str, times: int = 1, **fault: t.Any) -> None:
        """The next requests (times of them) for a path with this part in it get the fault; see Fault."""
        with self._change:
            self._planned.append(_Planned(part, times, Fault(**fault)))

    def take_fault(self, path: str) -> Fault | None:
        """The fault of a request, which is counted."""
        with self._change:
            planned = next((one for one in self._planned if one.left and one.part in path), None)
            if planned is None:
                return None
            planned.left -= 1
            return planned.fault

    def files(self, repo: str) -> list[str]:
        """The files of a repo, sorted."""
        folder = self.root / repo
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    def warm(self, repo: str) -> None:
        """Hash the files of a repo now, not when they are first asked for."""
        for name in self.files(repo):
            self.hash(self.root / repo / name)

    def hash(self, path: pathlib.Path) -> str:
        """What names the content on the hub: SHA-256 for what its storage keeps, git's SHA-1 for the rest."""
        return _hash_of(path, *_identity(path), self.hashed_bytes)

    def commit(self, repo: str) -> str:
        """The commit of a repo as it is now."""
        state = [(name, _identity(self.root / repo / name)) for name in self.files(repo)]
        return hashlib.sha1(repr((repo, state)).encode()).hexdigest()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, hub: Hub, origin: t.Literal["hub", "storage"]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub
        self.origin = origin


def _identity(path: pathlib.Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _is_stored(path: pathlib.Path) -> bool:
    return path.suffix in STORED or path.stat().st_size > 10_000_000


@functools.cache
def _hash_of(path: pathlib.Path, size: int, modified: int, hashed_bytes: int) -> str:
    if size > hashed_bytes:
        return hashlib.sha256(f"{path.name} {size} {modified}".encode()).hexdigest()
    digest = hashlib.sha256() if _is_stored(path) else hashlib.sha1(b"blob %d\0" % size)
    with open(path, "rb") as handle:
        while piece := handle.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        with self.server.hub.answering() as self._noted:
            self._route()

    do_HEAD = do_GET
    do_POST = do_GET

    def _route(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(url.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        hub = self.server.hub
        # The way to the storage is no fault of the file there.
        leads_on = self.server.origin == "hub" and "/resolve/" in path and path.endswith(STORED)
        self._fault = (None if leads_on else hub.take_fault(path)) or Fault()
        if self._fault.status:
            later = {"Retry-After": self._fault.retry_after} if self._fault.retry_after else {}
            self._refuse(self._fault.status, "", "as the test wants it", later)
        elif former := next((repo for repo in hub.moved if f"/{repo}/" in f"{path}/"), None):
            self._answer(307, {"Location": self.path.replace(former, hub.moved[former], 1)}, b"")
        elif self.server.origin == "storage":
            self._file(hub.root / path[1:], {})
        elif match := re.fullmatch(
            r"/api/models/([^/]+(?:/[^/]+)?)/(revision|tree|paths-info)/([^/]+)(?:/(.*))?", path
        ):
            self._api(match[1], match[2], match[3], match[4] or "", query)
        elif match := re.fullmatch(r"/api/models/([^/]+(?:/[^/]+)?)/refs", path):
            if self._allowed(match[1], "main"):
                branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": hub.commit(match[1])}
                self._json({"branches": [branch], "tags": [], "converts": []})
        elif match := re.fullmatch(r"/api/models/([^/]+(?:/[^/]+)?)", path):
            self._api(match[1], "revision", "main", "", query)
        elif match := re.fullmatch(r"/([^/]+(?:/[^/]+)?)/resolve/([^/]+)/(.+)", path):
            self._resolve(match[1], match[2], match[3])
        else:
            self._refuse(404, "", "no such address")

    def _allowed(self, repo: str, revision: str) -> bool:
        """Whether the asking one may have this; the refusal is sent when not."""
        hub, token = self.server.hub, self._token()
        folder = hub.root / repo
        if ".." in repo.split("/") or not folder.is_dir() or not any(path.is_file() for path in folder.iterdir()):
            # Who shows no token is not told whether a repo is private or absent.
            self._refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        elif repo in hub.gated and hub.gated[repo] != token:
            self._refuse(403 if token else 401, "GatedRepo", f"Access to model {repo} is restricted")
        elif revision not in ("main", hub.commit(repo)):
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return True
        return False

    def _api(self, repo: str, what: str, revision: str, folder: str, query: t.Mapping[str, str]) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self._allowed(repo, revision):
            return
        hub = self.server.hub
        names = hub.files(repo)
        if what == "paths-info":
            if self.headers.get("Content-Type", "").startswith("application/json"):
                wanted = json.loads(body)["paths"]
            else:
                wanted = urllib.parse.parse_qs(body.decode())["paths"]
            self._json([self._entry(repo, name) for name in names if name in wanted])
        elif what == "tree":
            inside = [name for name in names if name.startswith(folder + "/" if folder else "")]
            if folder and not inside:
                self._refuse(404, "EntryNotFound", f"{folder} does not exist")
                return
            start = len(folder) + 1 if folder else 0
            entries = [
                self._entry(repo, name)
                for name in inside
                if query.get("recursive") == "true" or "/" not in name[start:]
            ]
            folders = {name[: name.index("/", start)] for name in inside if "/" in name[start:]}
            self._json(
                [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in sorted(folders)] + entries
            )
        else:
            siblings: list[dict[str, t.Any]] = [{"rfilename": name} for name in names]
            if query.get("blobs"):
                for sibling in siblings:
                    entry = self._entry(repo, sibling["rfilename"])
                    sibling.update(size=entry["size"], blobId=entry["oid"])
                    if "lfs" in entry:
                        sibling["lfs"] = {"sha256": entry["lfs"]["oid"], "size": entry["size"], "pointerSize": 135}
            info = {"_id": "0" * 24, "id": repo, "modelId": repo, "sha": hub.commit(repo), "siblings": siblings}
            self._json({**info, "private": False, "gated": repo in hub.gated, "disabled": False, "tags": []})

    def _entry(self, repo: str, name: str) -> dict[str, t.Any]:
        path = self.server.hub.root / repo / name
        size = path.stat().st_size
        entry: dict[str, t.Any] = {"type": "file", "path": name, "size": size, "oid": self.server.hub.hash(path)}
        if _is_stored(path):
            entry["lfs"] = {"oid": entry["oid"], "size": size, "pointerSize": 135}
            # The object of git is then the pointer, whose hash nobody checks.
            entry["oid"] = entry["oid"][:40]
        return entry

    def _resolve(self, repo: str, revision: str, name: str) -> None:
        if not self._allowed(repo, revision):
            return
        hub = self.server.hub
        commit = {"X-Repo-Commit": hub.commit(repo)}
        path = hub.root / repo / name
        if name not in hub.files(repo):
            self._refuse(404, "EntryNotFound", f"{name} does not exist", commit)
        elif _is_stored(path):
            linked = {"X-Linked-ETag": f'"{self.server.hub.hash(path)}"', "X-Linked-Size": str(path.stat().st_size)}
            location = f"{hub.storage}/{urllib.parse.quote(f'{repo}/{name}')}"
            self._answer(302, {**commit, **linked, "Location": location}, b"")
        else:
            self._file(path, commit)

    def _file(self, path: pathlib.Path, headers: t.Mapping[str, str]) -> None:
        """The file or the range of it that is asked for."""
        size = path.stat().st_size
        headers = {**headers, "ETag": f'"{self.server.hub.hash(path)}"', "Accept-Ranges": "bytes"}
        asked = "" if self._fault.no_ranges else self.headers.get("Range", "")
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", asked)
        begin, end, status = 0, size, 200
        if wanted and wanted[0] != "bytes=-":
            if wanted[1]:
                begin, end = int(wanted[1]), min(int(wanted[2] or size) + 1, size)
            else:
                begin = max(0, size - int(wanted[2]))
            if begin >= end:
                self._answer(416, {"Content-Range": f"bytes */{size}"}, b"")
                return
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
            status = 206
        self._head(status, headers, end - begin)
        sent = 0
        if self.command != "HEAD" and end > begin:
            with open(path, "rb") as handle:
                try:
                    if self._fault == Fault():
                        sent = self.connection.sendfile(handle, begin, end - begin)
                    else:
                        sent = self._send_faulty(handle, begin, end)
                except OSError:  # the client hung up, as one does who is sent more than it asked for
                    sent = handle.tell() - begin
                    self.close_connection = True
        self._note(status, sent)

    def _send_faulty(self, handle: t.BinaryIO, begin: int, end: int) -> int:
        """The bytes from begin to end with the fault of this request in them; how many were sent."""
        fault = self._fault
        if fault.cut_at is not None and begin <= fault.cut_at < end:
            end = fault.cut_at
            self.close_connection = True
        step = (fault.bytes_per_second or 10 << 20) // 10
        for position in range(begin, end, step):
            handle.seek(position)
            piece = bytearray(handle.read(min(step, end - position)))
            if fault.wrong_at is not None and 0 <= fault.wrong_at - position < len(piece):
                piece[fault.wrong_at - position] ^= 1
            self.connection.sendall(piece)
            if fault.bytes_per_second:
                time.sleep(0.1)
        return max(0, end - begin)

    def _json(self, value: t.Any) -> None:
        self._answer(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _refuse(self, status: int, code: str, message: str, headers: t.Mapping[str, str] | None = None) -> None:
        told = {"X-Error-Code": code} if code else {}
        self._answer(status, {**(headers or {}), **told, "X-Error-Message": message}, b"")

    def _answer(self, status: int, headers: t.Mapping[str, str], body: bytes) -> None:
        self._head(status, headers, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)
        self._note(status, len(body))

    def _head(self, status: int, headers: t.Mapping[str, str], length: int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.flush()

    def _token(self) -> str | None:
        scheme, _space, token = self.headers.get("Authorization", "").partition(" ")
        return token if scheme == "Bearer" and token else None

    def _note(self, status: int, sent: int) -> None:
        asked = Asked(
            self.server.origin, self.command, self.path, self.headers.get("Range"), self._token(), status, sent
        )
        self._noted.append(asked)

    def log_message(self, *_arguments: object) -> None:
        """Nothing on stderr: the requests are kept instead."""
