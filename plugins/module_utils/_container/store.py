# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What we keep on a host beside the containers.

<state_dir>/lock                      held by the run that changes this host
<state_dir>/salt                      key of the secrets' marks, 0600
<state_dir>/secrets/<server>/<mark>/  one file a secret, 0600, mounted into the container
<state_dir>/generations/<server>.json  the definitions that became ready (generations.py), 0600
<state_dir>/down/<server>             says that a run has stopped a server that is to serve again
<state_dir>/ready/<server>            names the start of its container that was seen to be ready
<state_dir>/confirmed/<container>     says that this container was ready once; kept where its engine is Podman
<state_dir>/cache/<image>/<kind>/     kernels that engines have compiled, for each image, kind of GPU and user
<state_dir>/failed/<server>.log       the whole log of the last start that failed, 0600
<state_dir>/measured.jsonl            what starts have told of their memory (measured.py), 0644
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import getpass
import json
import os
import shutil
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import MARK_IN_PATH, ContainerSpec
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.wanted import secrets_mark
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import Refused

_SALT_BYTES = 32
_JSON = ".json"


class Store:
    """The state folder of one fleet on this host. What the file system refuses is raised as Refused."""

    def __init__(self, folder: str) -> None:
        self.folder = os.path.abspath(folder)
        self._secrets = os.path.join(self.folder, "secrets")
        self._generations = os.path.join(self.folder, "generations")
        self._down = os.path.join(self.folder, "down")
        self._ready = os.path.join(self.folder, "ready")
        self._confirmed = os.path.join(self.folder, "confirmed")

    @contextlib.contextmanager
    def locked(self, purpose: str) -> t.Iterator[None]:
        """Hold the host's lock; raises Refused at once, with who holds it, when another run does.

        purpose: what this run does, for whoever is refused meanwhile. The kernel frees the lock when a run is killed.
        """
        path = os.path.join(self.folder, "lock")
        with _told("write", path):
            os.makedirs(self.folder, mode=0o755, exist_ok=True)
            handle = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - closed below, after what the caller does
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                handle.seek(0)
                raise Refused(
                    f"Another run ({_holder(handle.read())}) is changing the servers of this host and holds {path}. "
                    "Nothing was changed; run again when it has ended."
                ) from error
            with _told("write", path):
                handle.truncate(0)
                handle.write(json.dumps(_myself(purpose)))
                handle.flush()
            yield

    def salt(self, create: bool) -> bytes:
        """The key of the secrets' marks.

        Where none exists and none may be created, a fresh one that fits no recorded mark.
        """
        path = os.path.join(self.folder, "salt")
        with _told("read", path):
            if os.path.exists(path):
                with open(path, "rb") as handle:
                    return handle.read()
        salt = os.urandom(_SALT_BYTES)
        if create:
            with _told("write", path):
                _write_private(path, salt, None)
        return salt

    def secrets_folder(self, server: str, mark: str) -> str:
        """Where the secret files of this server and these values lie.

        Other values lie elsewhere, so a former server keeps its own.
        """
        return os.path.join(self._secrets, server, mark[:MARK_IN_PATH])

    def has_secrets(self, spec: ContainerSpec) -> bool:
        """Whether the secret files of this container are all there as they were written; without secrets, too.

        The mark is a hash of all of them, so one that is missing or was changed shows.
        """
        if spec.secrets_mark is None:
            return True
        folder = self.secrets_folder(spec.server, spec.secrets_mark)
        try:
            values = {name: _read(os.path.join(folder, name)) for name in os.listdir(folder)}
        except (OSError, ValueError):
            return False
        return secrets_mark(values, spec.user, self.salt(create=False)) == spec.secrets_mark

    def servers(self) -> list[str]:
        """The servers of which something is kept: secret files or generations."""
        found = set(os.listdir(self._secrets)) if os.path.isdir(self._secrets) else set()
        if os.path.isdir(self._generations):
            names = os.listdir(self._generations)
            found.update(name[: -len(_JSON)] for name in names if name.endswith(_JSON))
        return sorted(found)

    def read_generations(self, server: str) -> t.Any:
        """What was written of the server's generations; None when nothing was, or nothing that can be read."""
        try:
            with open(os.path.join(self._generations, server + _JSON), encoding="utf-8") as handle:
                return json.load(handle)
        except (OSError, ValueError):
            return None

    def write_generations(self, server: str, data: t.Any) -> None:
        """Replace what is written of the server's generations, in one step."""
        path = os.path.join(self._generations, server + _JSON)
        with _told("write", path):
            os.makedirs(self._generations, mode=0o700, exist_ok=True)
            _write_private(path, json.dumps(data, sort_keys=True).encode(), None)

    def note_down(self, server: str) -> None:
        """Note that this server is stopped for a while, so that the next run knows it when this one is killed."""
        path = os.path.join(self._down, server)
        with _told("write", path):
            os.makedirs(self._down, mode=0o700, exist_ok=True)
            _write_private(path, b"", None)

    def note_up(self, server: str) -> None:
        """It serves again, or is not to serve any more."""
        path = os.path.join(self._down, server)
        with _told("remove", path), contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    def noted_down(self) -> set[str]:
        """The servers that runs have stopped and not seen serving again."""
        return set(os.listdir(self._down)) if os.path.isdir(self._down) else set()

    def note_ready(self, server: str, start: str) -> None:
        """This start of the server's container was seen to be ready; see ContainerState.start."""
        path = os.path.join(self._ready, server)
        with _told("write", path):
            os.makedirs(self._ready, mode=0o700, exist_ok=True)
            _write_private(path, start.encode(), None)

    def was_ready(self, server: str, start: str) -> bool:
        """Whether this start was seen to be ready; who may not read the folder does not know it."""
        try:
            return _read(os.path.join(self._ready, server)) == start
        except (OSError, UnicodeDecodeError):
            return False

    def note_confirmed(self, container: str, confirmed: bool) -> None:
        """Note whether the container of this ID was ready once."""
        path = os.path.join(self._confirmed, container)
        if confirmed:
            with _told("write", path):
                os.makedirs(self._confirmed, mode=0o700, exist_ok=True)
                _write_private(path, b"", None)
        else:
            with _told("remove", path), contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def was_confirmed(self, container: str) -> bool:
        """Whether the container of this ID was ready once."""
        return os.path.exists(os.path.join(self._confirmed, container))

    def keep_confirmed(self, containers: t.Collection[str]) -> None:
        """Forget of all but these containers, by their IDs, whether they were ready once."""
        for name in os.listdir(self._confirmed) if os.path.isdir(self._confirmed) else ():
            if name not in containers:
                # What is not removed hinders nobody.
                with contextlib.suppress(Refused):
                    self.note_confirmed(name, False)

    def forget(self, server: str) -> None:
        """Remove what is kept of a server whose containers are gone."""
        self.drop_secrets(server, ())
        kept = (
            os.path.join(self._generations, server + _JSON),
            os.path.join(self._ready, server),
            os.path.join(self._down, server),
        )
        for path in kept:
            with _told("remove", path), contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def read_secrets(self, server: str, mark: str | None) -> dict[str, str]:
        """The secrets of this mark by name; none where their files are not there."""
        folder = self.secrets_folder(server, mark or "")
        found = {}
        with _told("read", folder):
            for name in os.listdir(folder) if mark and os.path.isdir(folder) else ():
                with open(os.path.join(folder, name), encoding="utf-8") as handle:
                    found[name] = handle.read()
        return found

    def write_secrets(self, spec: ContainerSpec, values: t.Mapping[str, str]) -> None:
        """Write one file a secret, readable by the container's user alone."""
        if spec.secrets_mark is None:
            return
        folder = self.secrets_folder(spec.server, spec.secrets_mark)
        with _told("write", folder):
            os.makedirs(self._secrets, mode=0o700, exist_ok=True)
            os.makedirs(folder, mode=0o700, exist_ok=True)
            owner = numeric_user(spec.user)
            if owner:
                os.chown(folder, *owner)
            for entry in list(os.scandir(folder)):
                # What somebody has put beside them would be taken for a change of the secrets at every run, and a
                # folder is in the way of a file.
                if entry.name not in values or entry.is_dir(follow_symlinks=False):
                    _remove(entry.path)
            for name, value in values.items():
                _write_private(os.path.join(folder, name), value.encode(), owner)

    def drop_secrets(self, server: str, marks: t.Collection[str]) -> None:
        """Remove this server's secret files but those of the given marks."""
        folder = os.path.join(self._secrets, server)
        if not os.path.isdir(folder):
            return
        with _told("remove", folder):
            if not marks:
                shutil.rmtree(folder)
                return
            kept = {os.path.basename(self.secrets_folder(server, mark)) for mark in marks}
            for name in os.listdir(folder):
                if name not in kept:
                    _remove(os.path.join(folder, name))

    def make_own_mounts(self, spec: ContainerSpec) -> None:
        """Create the mounted folders that lie inside the state folder and belong to the container's user."""
        owner = numeric_user(spec.user)
        for mount in spec.mounts:
            if self.owns(mount.source) and not os.path.isdir(mount.source):
                with _told("make", mount.source):
                    # Servers of one image share their cache, and start at the same time.
                    os.makedirs(mount.source, mode=0o755, exist_ok=True)
                    if owner:
                        os.chown(mount.source, *owner)

    def caches(self) -> list[str]:
        """The folders of compiled kernels: those of each image that lie in one of its kinds of GPU."""
        found = []
        root = os.path.join(self.folder, "cache")
        for image in _folders(root):
            found.extend(_folders(image))
        return found

    def owns(self, path: str) -> bool:
        """Whether the path lies inside the state folder."""
        return os.path.abspath(path).startswith(self.folder + os.sep)

    def keep_failed_log(self, server: str, lines: t.Iterable[str]) -> str | None:
        """Keep the log of a failed start.

        Its path, or None when it cannot be written: the failure itself is what counts.
        """
        path = os.path.join(self.folder, "failed", server + ".log")
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            _write_private(path, "".join(line + "\n" for line in lines).encode(), None)
        except OSError:
            return None
        return path


def _folders(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def numeric_user(user: str) -> tuple[int, int] | None:
    """(uid, gid) of "uid" or "uid:gid".

    None for root as the image's default, and for names, which only the image can resolve.
    """
    parts = user.split(":")
    if not all(part.isdigit() for part in parts):
        return None
    return int(parts[0]), int(parts[-1])


def _myself(purpose: str) -> dict[str, t.Any]:
    """Who holds the lock, as it is written into it."""
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        user = str(os.getuid())
    return {
        "pid": os.getpid(),
        "user": user,
        # sshd sets it: address and port of the controller, port of this host
        "from": os.environ.get("SSH_CLIENT", "").split(" ")[0] or None,
        "since": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "purpose": purpose,
    }


def _holder(text: str) -> str:
    """Who holds the lock, in words, from what is written in it."""
    try:
        told = dict(json.loads(text))
    except (ValueError, TypeError):
        return f"process {text.strip() or 'unknown'}"
    place = f" from {told['from']}" if told.get("from") else ""
    return "process {pid} of {user}{place}, {purpose}, since {since}".format(
        **{"pid": "unknown", "user": "unknown", "purpose": "", "since": "unknown", **told, "place": place}
    )


@contextlib.contextmanager
def _told(attempt: str, path: str) -> t.Iterator[None]:
    """Turn what the file system refuses into a sentence."""
    try:
        yield
    except OSError as error:
        raise Refused(
            f"Cannot {attempt} {path}: {error.strerror or error}. Make room and see that the user of the task may "
            "write there, or set state_dir to another folder."
        ) from error


def _read(path: str) -> str:
    with open(path, encoding="utf-8", newline="") as handle:
        return handle.read()


def _remove(path: str) -> None:
    """Remove a file, a link (not what it leads to) or a whole folder."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _write_private(path: str, content: bytes, owner: tuple[int, int] | None) -> None:
    """Write a file of mode 0600 in one step, so that no reader sees a half of it."""
    temporary = path + ".new"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as handle:
            handle.write(content)
            if owner:
                os.fchown(handle.fileno(), *owner)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
