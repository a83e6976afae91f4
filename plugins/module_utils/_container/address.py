# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Where the server of a container can be asked, and by which certificate it is known."""

from __future__ import annotations

import os

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import ContainerSpec
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe import endpoint

# The name of the secret with the certificates of the CA; it lies beside the server's own.
_CA = "tls_ca"


def endpoint_of(spec: ContainerSpec | None, api_key: str | None = None) -> endpoint.Server:
    """The server of this container, as it is seen from its host."""
    if spec is None:
        return endpoint.Server("", 0)
    shown = spec.tls_certificate
    if shown is None:
        return endpoint.Server(*spec.listen, api_key)
    own = spec.on_host(shown) or shown
    signed_by = os.path.join(os.path.dirname(own), _CA)
    return endpoint.Server(*spec.listen, api_key, signed_by if os.path.exists(signed_by) else own)
