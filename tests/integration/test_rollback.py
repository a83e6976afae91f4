# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook rollback."""

from __future__ import annotations

from support.fleet import Fleet


def test_a_model_goes_back_to_what_it_was(fleet: Fleet) -> None:
    fleet.models = [fleet.model("one"), fleet.model("two")]
    assert fleet.deploy().rc == 0
    two = fleet.identities()["vllm-two-0"]
    first = fleet.containers()["vllm-one-0"].attrs["Config"]
    fleet.models[0]["env"] = {"STAND_IN_START_SECONDS": "0.4"}
    assert fleet.deploy().rc == 0

    unnamed = fleet.play("rollback")
    assert (unnamed.rc != 0, "Add for example -e rollback=" in unnamed.failure) == (True, True), unnamed.output
    wrong = fleet.play("rollback", rollback="one,tow")
    assert (wrong.rc != 0, "named tow" in wrong.failure, "vllm-one-0" in wrong.failure) == (True, True, True)
    none = fleet.play("rollback", rollback="two")
    assert (none.rc != 0, "there is no generation before 1" in none.failure) == (True, True), none.output

    before = fleet.identities()
    (foreseen,) = fleet.play("rollback", "--check", rollback="one").results("vllm_servers")
    assert fleet.identities() == before
    played = fleet.play("rollback", rollback="one")
    assert played.rc == 0, played.output
    (done,) = played.results("vllm_servers")
    assert foreseen["actions"] == done["actions"] != []
    assert [one["current"] for one in done["servers"][0]["generations"]] == [False, True]
    now = fleet.containers()["vllm-one-0"].attrs["Config"]
    assert (now["Env"], now["Entrypoint"], now["Cmd"]) == (first["Env"], first["Entrypoint"], first["Cmd"])
    assert fleet.identities()["vllm-two-0"] == two
    assert fleet.play("rollback", rollback="vllm-one-0").unchanged
    assert fleet.deploy().changed
