# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""The connection to the Docker Engine, and the SDK's errors turned into ours; the one place for both."""

from __future__ import annotations

import contextlib
import os
import traceback
import typing as t
from http.client import HTTPException

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.refusals import explained
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import EngineRefused, EngineUnreachable

DOCKER_IMPORT_ERROR: str | None = None
try:
    import docker
    import docker.errors
    import docker.utils
    import requests
    from urllib3.exceptions import HTTPError
except ImportError:
    DOCKER_IMPORT_ERROR = traceback.format_exc()


def connect(timeout: int) -> t.Any:
    """The SDK's client of this host's Engine, found as the docker command finds it: DOCKER_HOST, else the local socket.

    timeout: seconds for one answer. Raises EngineUnreachable when no Engine answers.
    """
    try:
        return docker.APIClient(version="auto", timeout=timeout, **docker.utils.kwargs_from_env())
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        place = os.environ.get("DOCKER_HOST") or "its local socket"
        raise EngineUnreachable(
            f"The Docker Engine does not answer at {place} on this host: {error}. Start it (systemctl start docker), "
            "or set DOCKER_HOST when it listens elsewhere, and see that the user of the task may use its socket."
        ) from error


@contextlib.contextmanager
def translated(attempt: str) -> t.Iterator[None]:
    """Turn the SDK's errors into ours, saying what was attempted."""
    try:
        yield
    except docker.errors.APIError as error:
        reason = str(error.explanation or error)
        raise EngineRefused(f"Failed to {attempt}: {explained(reason)}", reason=reason) from error
    # OSError and HTTPException: a stream that breaks is read below the SDK and requests, which translate nothing there.
    except (
        docker.errors.DockerException,
        requests.exceptions.RequestException,
        HTTPException,
        HTTPError,
        OSError,
    ) as error:
        raise EngineUnreachable(f"Failed to {attempt}: the Docker Engine does not answer: {error}") from error
