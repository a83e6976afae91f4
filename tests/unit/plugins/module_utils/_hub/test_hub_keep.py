# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes of a cache, and what stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import huggingface_hub
import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub import keep
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.keep import (
    Kept,
    Limits,
    User,
    is_remote,
    prune,
    report,
    table,
)

NOW = Limits(0, None)


@pytest.fixture
def full(bench):
    """Two revisions of acme/tiny that differ in config.json, and acme/other, all long unused."""
    bench.first = bench.present()["commit"]
    bench.add("acme/tiny", {"config.json": b'{"new": true}'})
    bench.second = bench.present(update=True)["commit"]
    bench.add("acme/other", {"config.json": b"{}", "model.safetensors": b"x" * 5000})
    bench.other = bench.present(repo="acme/other", revision=bench.commit("acme/other"))["commit"]
    return bench


def left(bench):
    """Repo and commit of what the hub's client finds, which also tells whether the cache is sound."""
    found = huggingface_hub.scan_cache_dir(bench.cache)
    assert not found.warnings
    return {(repo.repo_id, revision.commit_hash) for repo in found.repos for revision in repo.revisions}


def pruned(bench, *kept, users=(), limits=NOW, check=False):
    return prune(str(bench.cache), kept, users, limits, check)


def test_report(full):
    kept = [Kept("acme/tiny", None)]
    found = report(str(full.cache), kept, [])
    rows = {(one["repo"], one["commit"]): one for one in found["revisions"]}
    assert rows["acme/tiny", full.second]["needed_by"] == ["acme/tiny at main is declared"]
    assert rows["acme/tiny", full.first]["needed_by"] == []
    assert rows["acme/tiny", full.first]["freed_bytes"] == len(full.stored["config.json"])
    assert rows["acme/other", full.other]["bytes"] == 5002 == rows["acme/other", full.other]["freed_bytes"]
    assert rows["acme/other", full.other]["refs"] == [f"gpufleet/{full.other}"]
    assert abs(rows["acme/other", full.other]["last_used"] - time.time()) < 100
    theirs = huggingface_hub.scan_cache_dir(full.cache).size_on_disk
    assert found["total_bytes"] == theirs
    lines = table(found, str(full.cache))
    assert len(lines) == 4 and "nobody needs it" in lines[-1] + lines[-2]
    assert report(str(full.cache / "none"), [], [])["revisions"] == []


def test_what_is_declared_stays_with_all_it_shares(full):
    foreseen = pruned(full, Kept("acme/tiny", None), check=True)
    assert len(left(full)) == 3
    result = pruned(full, Kept("acme/tiny", None))
    assert {**foreseen, "diff": 0} == {**result, "diff": 0} and result["diff"] == foreseen["diff"]
    assert left(full) == {("acme/tiny", full.second)}
    assert result["freed_bytes"] == 5002 + len(full.stored["config.json"])
    assert full.present(check=True)["fetched"] == []
    assert full.verified()["problems"] == []
    assert not pruned(full, Kept("acme/tiny", None))["changed"]
    assert not (full.cache / "models--acme--other").exists()


def test_a_commit_may_be_what_is_kept(full):
    pruned(full, Kept("acme/tiny", full.first), Kept("acme/other", full.other))
    assert left(full) == {("acme/tiny", full.first), ("acme/other", full.other)}


@pytest.mark.parametrize(
    "words, stays",
    [
        (["serve", "acme/tiny", "--revision", "{first}"], {"first"}),
        (["serve", "acme/tiny"], {"first", "second"}),
        (["serve", "acme/tiny", "--revision", "{second}", "--tokenizer", "acme/other"], {"second", "other"}),
        (["/hub/models--acme--tiny/snapshots/{first}/"], {"first"}),
        (["serve", "something"], {"first", "second", "other"}),
    ],
)
def test_what_a_running_container_reads_stays(full, words, stays):
    commits = {"first": full.first, "second": full.second, "other": full.other}
    user = User("vllm-x", tuple(word.format(**commits) for word in words))
    pruned(full, users=[user])
    assert {commit for _repo, commit in left(full)} == {commits[name] for name in stays}


def test_what_was_used_lately_stays(full):
    assert not pruned(full, limits=Limits(3600, None))["changed"]
    # Parts of a download that somebody may go on with.
    partial = full.repo / "blobs" / ("a" * 64 + ".incomplete")
    partial.write_bytes(b"x" * 100)
    assert report(str(full.cache), [], [])["partial_bytes"] == 100
    assert not pruned(full, limits=Limits(3600, None))["removed_partials"]
    os.utime(partial, (1, 1))
    assert pruned(full, limits=Limits(3600, None))["removed_partials"] == [str(partial)]


def test_a_quota_takes_the_longest_unused_first(full):
    for path in (full.cache / "models--acme--other").rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.utime(path, (1000, 1000))
    total = report(str(full.cache), [], [])["total_bytes"]
    result = pruned(full, limits=Limits(0, total - 1))
    assert [one["repo"] for one in result["removed"]] == ["acme/other"]
    assert not pruned(full, limits=Limits(0, total))["changed"]


def test_a_quota_that_cannot_be_kept_removes_nothing(full):
    with pytest.raises(FleetError, match="more than the quota of 0.00 GB. Nothing was removed") as failed:
        pruned(full, Kept("acme/tiny", None), limits=Limits(0, 10))
    assert failed.value.details["kind"] == "over_quota" and len(left(full)) == 3


def test_the_store_of_all_repos_loses_what_nobody_links_to(full):
    store = full.cache / "blobs" / "ab"
    store.mkdir(parents=True)
    blobs = full.cache / "models--acme--other/blobs"
    (blob,) = [path for path in blobs.iterdir() if path.stat().st_size == 5000]
    blob.rename(store / "hash")
    blob.symlink_to("../../blobs/ab/hash")
    pruned(full, Kept("acme/tiny", None))
    assert not (store / "hash").exists()


def test_what_other_hosts_need_is_told_apart(full):
    kept = [Kept("acme/tiny", None), Kept("acme/tiny", None, True), Kept("acme/other", full.other, True)]
    needs = {one["commit"]: one["needed_by"] for one in report(str(full.cache), kept, [])["revisions"]}
    assert needs[full.second] == ["acme/tiny at main is declared"]
    assert needs[full.other] == [f"acme/other at {full.other} is declared for other hosts, which may share the cache"]


@pytest.mark.parametrize(
    "folder, remote",
    [
        ("/srv/vllm/hub", False),
        ("/srv/models/hub/not/there/yet", True),
        ("/srv/models/local/hub", False),
        ("/srv/modelsother", False),
        ("/mnt/with space/hub", True),
        ("/mnt/fuse", True),
        ("/mnt/new", True),
    ],
)
def test_caches_that_hosts_may_share(tmp_path, folder, remote):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "30 22 0:50 / /srv/models rw,relatime shared:2 - nfs4 server:/models rw,vers=4.2\n"
        "31 30 8:17 / /srv/models/local rw - xfs /dev/sdb1 rw\n"
        "32 22 0:51 / /mnt/with\\040space rw - cifs //server/models rw\n"
        "33 22 0:52 / /mnt/fuse rw - ext4 /dev/sdc1 rw\n"
        "34 22 0:53 / /mnt/fuse rw - fuse.juicefs JuiceFS:models rw\n"
        "35 22 0:54 / /mnt/new rw - autofs systemd-1 rw\n"
    )
    assert is_remote(folder, str(mounts)) is remote


def test_locks_that_root_makes_are_those_of_whom_the_cache_is(full, monkeypatch):
    """As root anything may be given away; else only what one has to oneself, which proves less."""
    owner = 12345 if os.geteuid() == 0 else os.geteuid()
    os.chown(full.cache, owner, -1)
    shutil.rmtree(full.cache / ".locks")
    pruned(full, Kept("acme/tiny", None))
    made = [full.cache / ".locks", *(full.cache / ".locks").rglob("*")]
    assert len(made) == 6 and {path.stat().st_uid for path in made} == {owner}


# A process, for a POSIX lock excludes no thread. It begins when its input ends.
PRUNE = """
import sys
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.keep import Kept, Limits, prune
sys.stdin.read()
print(len(prune(sys.argv[1], [Kept("acme/tiny", None)], [], Limits(0, None), False)["removed"]))
"""


def test_hosts_that_share_the_cache_and_prune_at_once(full):
    command = [sys.executable, "-c", PRUNE, str(full.cache)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    gate, hold = os.pipe()
    hosts = [
        subprocess.Popen(command, env=environment, stdin=gate, stdout=subprocess.PIPE, text=True)
        for _number in range(4)
    ]
    os.close(hold)
    os.close(gate)
    assert sorted(one.communicate(timeout=60)[0] for one in hosts) == ["0\n", "0\n", "0\n", "2\n"]
    assert left(full) == {("acme/tiny", full.second)}


def test_what_came_while_another_revision_was_removed_keeps_its_blobs(full, monkeypatch):
    listed = keep.revisions(str(full.cache))
    full.add("acme/tiny", {"config.json": b'{"newer": true}'})
    third = full.present(update=True)["commit"]
    monkeypatch.setattr(keep, "revisions", lambda _cache: [one for one in listed if one.repo == "acme/tiny"])
    pruned(full)
    assert left(full) == {("acme/tiny", third), ("acme/other", full.other)}
    assert full.verified()["problems"] == []
