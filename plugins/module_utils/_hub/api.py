# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What the hub says of a repo, asked by its own client: commit, files, addresses. Nothing is stored.

Imported only where the hub is asked, for the client takes half a second to import. No message repeats what the client
or the hub said: it could hold a token or a signed address.
"""

from __future__ import annotations

import os
import time
import traceback
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.fetch import FetchError, Source, refused, retry_after
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.listing import File, Listing, listing

CLIENT = "huggingface-hub >= 1.0.0"

_TIMEOUT_SECONDS = 30
_TRIES = 5
_PASSING = (408, 425, 429, 500, 502, 503, 504)


class ClientMissing(FleetError):
    """The hub's client is not installed, or too old. details["exception"]: where the import failed."""


class Hub:
    """One hub as one user sees it.

    endpoint, token: those of the environment when None (HF_ENDPOINT; HF_TOKEN, HF_TOKEN_PATH, the token that was kept
    by a login). retry_after_limit: the longest that the hub may make us wait, in seconds.
    """

    def __init__(self, endpoint: str | None, token: str | None, retry_after_limit: int) -> None:
        self._client = _client()
        self._api = self._client.HfApi(endpoint=endpoint, token=token)
        self._endpoint = endpoint
        self._limit = retry_after_limit
        self.name = _shown(self._api.endpoint)

    def list_files(self, repo: str, revision: str) -> Listing:
        """All files of a repo at a branch, tag or commit. Raises FetchError, and FleetError for hostile names."""
        for attempt in range(_TRIES):
            try:
                info = self._api.model_info(repo, revision=revision, files_metadata=True, timeout=_TIMEOUT_SECONDS)
                break
            except Exception as error:  # those of an HTTP library whose name differs by release of the client
                wait = self._wait(error, attempt)
                if wait is None:
                    raise self._refusal(error, repo, revision) from None
                time.sleep(wait)
        files = (_file(sibling) for sibling in info.siblings or [])
        # The repo may have moved; it is kept under the name that it was asked for, by which the engine looks for it.
        return listing(repo, info.sha or "", files)

    def source(self, repo: str, commit: str) -> Source:
        """Where the files of a commit are."""
        client, endpoint = self._client, self._endpoint
        headers = client.utils.build_hf_headers(token=self._api.token)

        def address(name: str) -> str:
            return str(client.hf_hub_url(repo, name, revision=commit, endpoint=endpoint))

        return Source(self.name, address, headers, self._limit)

    def _wait(self, error: Exception, attempt: int) -> float | None:
        """Seconds until another try; None when that would not help."""
        response = getattr(error, "response", None)
        names = [kind.__name__ for kind in type(error).__mro__]
        if "OfflineModeIsEnabled" in names or "HfHubHTTPError" in names and response is None:
            return None
        if response is None:
            is_network = any(name in ("TransportError", "OSError") for name in names)
            return min(2.0**attempt, 8) if is_network and attempt < 2 else None
        if response.status_code not in _PASSING or attempt + 1 == _TRIES:
            return None
        wait = retry_after(response.headers.get("Retry-After"))
        if wait is not None and wait > self._limit:
            raise FetchError(
                f"{self.name} asks to wait {wait:.0f} s before the next request (status {response.status_code}), more "
                f"than the {self._limit} s of retry_after_limit. Run this again later, or with a token, for which "
                "limits are higher.",
                kind="too_many",
            ) from None
        return min(2.0**attempt, 8) if wait is None else wait

    def _refusal(self, error: Exception, repo: str, revision: str) -> FetchError:
        response = getattr(error, "response", None)
        what = f"{repo} at {revision}"
        names = [kind.__name__ for kind in type(error).__mro__]
        if "OfflineModeIsEnabled" in names:
            return FetchError(
                f"{what} has to be looked up on the hub, and HF_HUB_OFFLINE is set on this host. Fetch on a host that "
                "may ask the hub, and bring the cache here.",
                kind="offline",
            )
        if response is not None:
            code = response.headers.get("X-Error-Code")
            if "RepositoryNotFoundError" in names and "GatedRepoError" not in names:
                # Who shows no token is answered 401 for a repo that is not there.
                return refused(self.name, 404, code, what)
            return refused(self.name, response.status_code, code, what)
        return FetchError(
            f"{self.name} cannot be asked for {what}: {type(error).__name__}. Check the endpoint, the proxies and the "
            "way there.",
            kind="unreachable",
        )


def _file(sibling: t.Any) -> File:
    """A file as the client tells it. The hash of what the storage keeps is in lfs, of the rest in blob_id."""
    lfs = sibling.lfs
    sha256 = (lfs.get("sha256") if isinstance(lfs, dict) else getattr(lfs, "sha256", None)) if lfs else None
    return File(
        str(sibling.rfilename), -1 if sibling.size is None else int(sibling.size), sha256 or sibling.blob_id or ""
    )


def _client() -> t.Any:
    # The client's own remarks would spoil the module's output.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_UPDATE_CHECK", "1")
    try:
        import huggingface_hub
        import huggingface_hub.utils

        if not hasattr(huggingface_hub.utils, "http_stream_backoff"):
            raise ImportError("this huggingface_hub is older than 1.0.0")
    except ImportError:
        raise ClientMissing(
            f"The hub has to be asked, for which {CLIENT} is needed", exception=traceback.format_exc()
        ) from None
    return huggingface_hub


def _shown(address: str) -> str:
    """An address without the user and password that it may have."""
    scheme, sep, rest = address.partition("://")
    return scheme + sep + rest.rpartition("@")[2] if sep else address
