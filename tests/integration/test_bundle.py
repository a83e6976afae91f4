# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of a fleet's models to a site without internet: bundle, load, deploy from what was loaded, delta."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess

from support.bundle import add_snapshot
from support.fleet import Fleet


def test_a_fleet_is_bundled_loaded_and_deployed_offline(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    # The tokenizer lies in another repo, and goes along without being named again.
    near = tmp_path / "near-hub"
    shutil.copytree(fleet.hub, near, symlinks=True)
    add_snapshot(near, {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": b"of no use"}, "acme/words")
    fleet.hub = near
    model = fleet.model("bundled")
    fleet.models = [{**model, "engine": {**model["engine"], "tokenizer": "acme/words"}}]
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    (tmp_path / "allowed").write_text("builder " + (tmp_path / "key.pub").read_text())
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels/a-1-py3-none-any.whl").write_bytes(b"wheel")
    make = {
        "bundle_host": "one",
        "bundle_dest": str(tmp_path / "bundle"),
        "bundle_sign_key": str(tmp_path / "key"),
        "bundle_files": [{"src": str(tmp_path / "wheels"), "kind": "wheel"}],
        "bundle_reserve_bytes": 0,
    }
    foreseen = fleet.play("bundle", "--check", **make)
    assert foreseen.rc == 0 and foreseen.changed and not (tmp_path / "bundle").exists(), foreseen.output
    made = fleet.play("bundle", **make)
    assert made.rc == 0, made.output
    result = made.results("bundle_create")[0]
    assert result["signed"] and result["images"][0]["names"] == [fleet.stand_in]
    assert [one["repo_id"] for one in result["snapshots"]] == ["gpufleet/tiny-qwen3", "acme/words"]
    assert result["snapshots"][1]["files"] == 2
    assert fleet.play("bundle", **make).unchanged

    fleet.hub = tmp_path / "far-hub"
    take = {
        "bundle_src": [str(tmp_path / "bundle")],
        "bundle_files_dir": str(tmp_path / "far-files"),
        "bundle_load_state_path": str(tmp_path / "state/bundle.json"),
        "bundle_reserve_bytes": 0,
    }
    refused = fleet.play("load", **take)
    assert refused.rc and "Nobody was said whose bundles are to be trusted" in refused.output
    assert not fleet.hub.exists()
    take["bundle_allowed_signers"] = str(tmp_path / "allowed")
    loaded = fleet.play("load", "--diff", **take)
    assert loaded.rc == 0, loaded.output
    assert "main of gpufleet/tiny-qwen3: absent" in loaded.output
    assert (tmp_path / "far-files/wheels/a-1-py3-none-any.whl").read_bytes() == b"wheel"
    assert fleet.play("load", **take).unchanged
    deployed = fleet.deploy()
    assert deployed.rc == 0, deployed.output

    listed = fleet.play("bundle_inventory", bundle_inventory_dest=os.path.relpath(tmp_path / "far"), **take)
    assert listed.rc == 0, listed.output
    assert json.loads((tmp_path / "far/one.json").read_text())["blobs"]
    (tmp_path / "wheels/b-1-py3-none-any.whl").write_bytes(b"another")
    delta = {
        **make,
        "bundle_dest": str(tmp_path / "delta"),
        "bundle_inventory": str(tmp_path / "far/one.json"),
        "bundle_state_path": str(tmp_path / "bundle.state.json"),
    }
    small = fleet.play("bundle", **delta)
    assert small.rc == 0, small.output
    # The configuration of the image goes along always; nothing else but what is new.
    assert 7 < small.results("bundle_create")[0]["bytes"] < 20_000
    assert fleet.play("load", **{**take, "bundle_src": [str(tmp_path / "delta")]}).rc == 0
    assert (tmp_path / "far-files/wheels/b-1-py3-none-any.whl").read_bytes() == b"another"
