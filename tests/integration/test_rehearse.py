# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook rehearse: before the deployment and beside the fleet, it changes nothing and says all of it."""

from __future__ import annotations

import typing as t

from support.fleet import Fleet, Played

# The engine's program: it asks the hub before it serves.
ASKING = (
    "import os, socket, sys\n"
    "try:\n    socket.create_connection(('huggingface.co', 443), timeout=60)\n"
    "except OSError as error:\n    print(error, flush=True)\n"
    "os.execvp('vllm', ['vllm', 'serve', *sys.argv[1:]])"
)


def rehearse(fleet: Fleet, *arguments: str, **extra: t.Any) -> Played:
    return fleet.play("rehearse", *arguments, server_allow_stand_in=True, rehearse_listen_seconds=0, **extra)


def test_beside_the_fleet(fleet: Fleet) -> None:
    one, two = fleet.model("reh-one"), fleet.model("reh-two", entrypoint=["python3", "-c", ASKING])
    broken = {
        "STAND_IN_DIE_AT": "weights",
        "STAND_IN_DIE_TEXT": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
    }
    fleet.models = [one, two]
    assert fleet.deploy().rc == 0
    before = fleet.identities()

    fleet.models = [one, two, fleet.model("reh-three", replicas=2, env=broken)]
    foreseen = rehearse(fleet, "--check")
    assert foreseen.unchanged
    (result,) = foreseen.results("vllm_rehearse")
    assert result["msg"] == "To be rehearsed: vllm-reh-one-0, vllm-reh-three-0, vllm-reh-two-0."

    played = rehearse(fleet)
    assert played.rc != 0 and not played.changed
    assert fleet.identities() == before
    assert not (fleet.state_dir / "rehearsal").exists()
    (result,) = played.results("vllm_rehearse")
    assert {entry["model"]: entry["verdict"] for entry in result["rehearsals"]} == {
        "reh-one": "clean",
        "reh-two": "asked",
        "reh-three": "not_started",
    }
    ((cause, *_others),) = [entry["causes"] for entry in result["diagnosis"]]
    text = played.failure
    assert cause["cause"] in text
    assert "vllm-reh-one-0: starts without network; " in text
    assert "vllm-reh-three-0: does not start without network, in the stage" in text
    assert "asked for huggingface.co:443 (from the process python3, at second " in text
