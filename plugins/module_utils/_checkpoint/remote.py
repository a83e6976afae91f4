# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Files of a repo on the hub, read by ranges over the network: nothing is stored, and no file is read as a whole.

Addresses, token, proxies and retries are those of the client huggingface_hub, 1.0.0 or newer (HF_ENDPOINT, HF_TOKEN,
HF_HUB_OFFLINE ...). No message repeats what the client or the hub said: it could hold a token or a signed address.
"""

from __future__ import annotations

import concurrent.futures
import re
import traceback
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.files import CheckpointError, Files
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError

CLIENT = "huggingface-hub >= 1.0.0"

_TIMEOUT_SECONDS = 10
_RETRIES = 2
_PARALLEL = 16


class HubError(FleetError):
    """The hub does not give a repo. details["kind"]: not_there, no_revision, gated, offline, unreachable."""


class ClientMissing(FleetError):
    """The hub's client is not installed, or too old. details["exception"]: where the import failed."""


class HubFiles(Files):
    """The files of one commit of a repo on the hub."""

    def __init__(self, client: t.Any, repo: str, commit: str, sizes: dict[str, int]) -> None:
        self.repo, self.commit = repo, commit
        self._client = client
        self.names = sorted({*sizes, *(name.split("/")[0] for name in sizes)})
        self._sizes = sizes
        self._heads: dict[str, bytes] = {}
        self._failed: dict[str, CheckpointError] = {}

    def where(self, name: str) -> str:
        return _shown(self._address(name))

    def _address(self, name: str) -> str:
        return self._client.hf_hub_url(self.repo, name, revision=self.commit)

    def size(self, name: str) -> int:
        if name not in self._sizes:
            raise CheckpointError("missing", self.where(name), "the hub has no such file in this commit")
        return self._sizes[name]

    def read(self, name: str, begin: int, length: int) -> bytes:
        end = min(begin + length, self.size(name))
        if name in self._failed:
            raise self._failed[name]
        head = self._heads.get(name, b"")[begin:end]
        begin += len(head)
        return head + self._get(name, begin, end) if begin < end else head

    def prefetch(self, heads: t.Mapping[str, int]) -> None:
        """Reads the beginnings of these files in parallel, one request each. Errors come back when they are read."""
        ends = {name: min(length, self._sizes.get(name, 0)) for name, length in heads.items()}
        with concurrent.futures.ThreadPoolExecutor(_PARALLEL) as pool:
            futures = {name: pool.submit(self._get, name, 0, end) for name, end in ends.items() if end}
        for name, future in futures.items():
            try:
                self._heads[name] = future.result()
            except CheckpointError as error:
                self._failed[name] = error

    def _get(self, name: str, begin: int, end: int) -> bytes:
        """These bytes of a file, by one request. What a server sends beyond them is not read."""
        utils = self._client.utils
        headers = {**utils.build_hf_headers(), "Range": f"bytes={begin}-{end - 1}", "Accept-Encoding": "identity"}
        content = bytearray()
        try:
            with utils.http_stream_backoff(
                "GET", self._address(name), headers=headers, timeout=_TIMEOUT_SECONDS, max_retries=_RETRIES
            ) as response:
                utils.hf_raise_for_status(response)
                if response.status_code == 206 or begin == 0:
                    for chunk in response.iter_raw():
                        content += chunk
                        if len(content) >= end - begin:
                            break
        except Exception as error:  # those of an HTTP library whose name differs by release of the client
            raise CheckpointError("unreadable", self.where(name), f"the hub did not give it: {_why(error)}") from None
        if len(content) < end - begin:
            text = f"the hub gave {len(content)} bytes of the {end - begin} from byte {begin}. Try again"
            raise CheckpointError("unreadable", self.where(name), text)
        return bytes(content[: end - begin])


def _client(repo: str) -> t.Any:
    """The client, imported here because that takes half a second, which is lost where the hub is not asked."""
    try:
        import huggingface_hub
        import huggingface_hub.utils

        if not hasattr(huggingface_hub.utils, "http_stream_backoff"):
            raise ImportError("this huggingface_hub is older than 1.0.0")
    except ImportError:
        text = f"{repo} is to be looked up on the hub, for which {CLIENT} is needed"
        raise ClientMissing(text, exception=traceback.format_exc()) from None
    return huggingface_hub


def open_repo(repo: str, revision: str | None) -> HubFiles:
    """The files of a repo at a branch, tag or commit; "main" when None. Raises HubError, and ClientMissing."""
    client = _client(repo)
    try:
        info = client.HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=_TIMEOUT_SECONDS)
    except Exception as error:  # as in _get
        names = [kind.__name__ for kind in type(error).__mro__]
        kind, advice = next((value for name, value in _REFUSALS.items() if name in names), _UNREACHABLE)
        text = f"{repo} at {revision or 'main'} cannot be read from {_shown(client.constants.ENDPOINT)}: {_why(error)}"
        raise HubError(f"{text}. {advice}", kind=kind) from None
    sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or []}
    return HubFiles(client, repo, info.sha or "", sizes)


# By the names of the client's errors; the first that an error is of.
_REFUSALS = {
    "GatedRepoError": (
        "gated",
        "Ask for access on its page, and let HF_TOKEN or HF_TOKEN_PATH tell a token that has it.",
    ),
    "RepositoryNotFoundError": ("not_there", "Correct the name; a private repo needs a token (HF_TOKEN)."),
    "RevisionNotFoundError": ("no_revision", "Give a branch, a tag or a commit that the repo has."),
    "OfflineModeIsEnabled": ("offline", "HF_HUB_OFFLINE is set on this host: pre-stage the model instead."),
}
_UNREACHABLE = ("unreachable", "Check HF_ENDPOINT and the way there, or pre-stage the model.")


def _shown(address: str) -> str:
    """An address without the user and password that it may have."""
    return re.sub(r"//[^/@]*@", "//", address)


def _why(error: Exception) -> str:
    """What went wrong in words that hold no secret: the kind of error, and the status of the answer."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return type(error).__name__ + (f", status {status}" if status else "")
