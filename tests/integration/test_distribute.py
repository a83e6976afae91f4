# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle goes from host to host through a real sshd and rsync; the hosts are folders of this machine."""

from __future__ import annotations

import contextlib
import getpass
import pathlib
import shutil
import typing as t

import pytest

from support.bundle import Sides, add_snapshot
from support.fleet import Fleet
from support.ssh import sshd

COUNT = 5


@pytest.fixture
def ports(tmp_path: pathlib.Path) -> t.Iterator[list[int]]:
    """The ports of an sshd for each host; each lets in whoever stands in the host's file of keys."""
    if not shutil.which("rsync"):
        pytest.skip("no rsync here")
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(sshd(tmp_path, tmp_path / f"authorized-h{number}")) for number in range(COUNT)]


@pytest.mark.optional
def test_a_bundle_goes_from_host_to_host_around_a_broken_one(
    fleet: Fleet, tmp_path: pathlib.Path, ports: list[int]
) -> None:
    sides = Sides(tmp_path / "sides")
    add_snapshot(sides.near, {"model.safetensors": bytes(300_000), "config.json": b"{}"})
    names = [f"h{number}" for number in range(COUNT)]
    sides.create(dest=str(tmp_path / "h0/bundle"), file_bytes=100_000)
    fleet.host_vars = {
        name: {
            "ansible_port": port,
            "bundle_distribute_authorized_keys": str(tmp_path / f"authorized-{name}"),
            "bundle_distribute_address": "127.0.0.1",
            "bundle_distribute_path": str(tmp_path / name / "bundle"),
        }
        for name, port in zip(names, ports, strict=True)
    }
    # Nobody can copy from this one, though it can copy; another has a partial file of an earlier run, which is wrong.
    fleet.host_vars["h1"]["ansible_port"] = 1
    blob = next((tmp_path / "h0/bundle").rglob("blobs/*/*/*"))
    wrong = tmp_path / "h2" / blob.relative_to(tmp_path / "h0")
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(bytes(blob.stat().st_size - 1) + b"x")
    shutil.copystat(blob, wrong)
    given = {
        "bundle_distribute_seeds": ["h0"],
        "bundle_distribute_waves": 6,
        "bundle_distribute_limit": "5000",
        "bundle_distribute_user": getpass.getuser(),
        "bundle_distribute_host_key": str(tmp_path / "host_key.pub"),
        "bundle_unsigned": True,
    }
    foreseen = fleet.play("distribute", "--check", **given)
    assert foreseen.rc == 0 and not (tmp_path / "h3").exists(), foreseen.output
    # One has a part of a blob, which is completed, and more of an earlier bundle, which makes no room for this one.
    part = tmp_path / "h4" / blob.relative_to(tmp_path / "h0")
    part.parent.mkdir(parents=True)
    part.write_bytes(blob.read_bytes()[:1])
    (tmp_path / "h4/bundle/older").write_bytes(bytes(200_000))
    full = fleet.play("distribute", **given, bundle_reserve_bytes=10**18)
    assert full.rc and "bytes free. The bundle has 100002 bytes" in full.output, full.output
    whole = sum(path.stat().st_size for path in (tmp_path / "h0/bundle").rglob("*") if path.is_file())
    for rest in (whole, whole - blob.stat().st_size, whole - 1):
        assert f" {rest} are to be copied" in full.output, full.output
    assert not list((tmp_path / "h3").rglob("*/*.*"))
    played = fleet.play("distribute", **given)
    assert played.rc == 0, played.output
    wanted = {path.relative_to(tmp_path / "h0"): path.read_bytes() for path in (tmp_path / "h0/bundle").rglob("*/*.*")}
    for name in names[1:]:
        for path, content in wanted.items():
            assert (tmp_path / name / path).read_bytes() == content
    for name in names:
        assert "restrict" not in (tmp_path / f"authorized-{name}").read_text()
    assert not list(pathlib.Path("/tmp").glob("gpufleet-distribute-*/key"))
    again = fleet.play("distribute", **given)
    assert again.rc == 0 and again.unchanged, again.output
