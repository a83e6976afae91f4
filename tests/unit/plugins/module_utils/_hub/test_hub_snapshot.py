# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots from a local hub, of which the real client makes the list of files."""

from __future__ import annotations

import hashlib
import json
import os
import time

import huggingface_hub
import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub import change, fetch, snapshot
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.listing import File
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.store import Access, Repo

FIRST = "model-00001-of-00002.safetensors"


def etag(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Tries follow each other at once."""
    monkeypatch.setattr(fetch, "_WAIT_SECONDS", (0,))


# --- the cache ------------------------------------------------------------------------------------------------------


def test_fetches_all_that_an_engine_reads(bench):
    result = bench.present()
    assert result["changed"] and result["commit"] == bench.commit()
    assert result["path"] == str(bench.snapshot())
    assert bench.content() == bench.stored
    assert result["files"] == sorted(bench.stored) == result["fetched"]
    assert {one["name"]: one["reason"] for one in result["omitted"]} == {
        "pytorch_model.bin": "pickle",
        "modeling_tiny.py": "code",
        "onnx/model.onnx": "foreign",
    }
    assert result["total_bytes"] == sum(map(len, bench.stored.values()))
    assert result["fetched_bytes"] == result["total_bytes"] and result["resumed_bytes"] == 0
    assert bench.left() == []
    assert bench.told[-1][1]["done"] == result["total_bytes"]


def test_the_layout_is_that_of_the_hub_s_client(bench, tmp_path):
    bench.present()
    theirs = tmp_path / "theirs"
    huggingface_hub.snapshot_download(
        "acme/tiny",
        endpoint=bench.hub.endpoint,
        cache_dir=theirs,
        ignore_patterns=["*.bin", "*.py", "*.onnx"],
    )
    ours = bench.cache

    def layout(root):
        found = {}
        for part in ("refs", "snapshots", "blobs"):
            for path in sorted((root / "models--acme--tiny" / part).rglob("*")):
                name = str(path.relative_to(root))
                found[name] = os.readlink(path) if path.is_symlink() else path.is_dir() or path.read_bytes()
        return found

    assert layout(ours) == layout(theirs)
    again = huggingface_hub.snapshot_download("acme/tiny", cache_dir=ours, local_files_only=True)
    assert again == str(bench.snapshot())


def test_nothing_is_asked_when_all_is_there(bench):
    bench.present()
    asked = len(bench.hub.requests)
    for revision in ("main", bench.commit()):
        # The first run with a commit also writes the ref that keeps it from being pruned.
        bench.present(revision=revision)
        result = bench.present(revision=revision)
        assert not result["changed"] and result["fetched_bytes"] == 0
    assert len(bench.hub.requests) == asked


def test_a_commit_is_not_pruned(bench):
    bench.present(revision=bench.commit())
    [repo] = huggingface_hub.scan_cache_dir(bench.cache).repos
    [revision] = repo.revisions
    assert revision.refs == {f"gpufleet/{bench.commit()}"}


def test_a_branch_moves_only_when_told(bench):
    first = bench.present()["commit"]
    bench.add("acme/tiny", {"config.json": b'{"new": 1}'})
    assert bench.present()["commit"] == first
    result = bench.present(update=True)
    assert result["commit"] == bench.commit() != first
    assert result["fetched"] == ["config.json"]
    assert bench.content() == {**bench.stored, "config.json": b'{"new": 1}'}


@pytest.mark.parametrize(
    "scope, names",
    [
        ("config", ["config.json"]),
        ("tokenizer", ["chat_template.jinja", "config.json", "tokenizer.json", "tokenizer_config.json"]),
    ],
)
def test_scopes(bench, scope, names):
    assert bench.present(scope=scope)["fetched"] == names
    assert sorted(bench.content()) == names
    # What was fetched stays when more is wanted.
    rest = bench.present()
    assert sorted([*rest["fetched"], *names]) == sorted(bench.stored)


def test_patterns(bench):
    result = bench.present(allow=("*.json", "onnx/*"), ignore=("tok*",))
    assert result["fetched"] == ["config.json", "onnx/model.onnx"]


def test_owner_and_mode(bench):
    access = Access(uid=os.getuid(), gid=os.getgid(), file_mode=0o640)
    bench.present(access=access)
    assert {path.stat().st_mode & 0o777 for path in bench.snapshot().rglob("*") if path.is_file()} == {0o640}
    assert {path.stat().st_mode & 0o777 for path in bench.repo.rglob("*") if path.is_dir()} == {0o750}
    assert not bench.present(access=access)["changed"]
    foreseen = bench.present(access=access._replace(file_mode=0o644), check=True)
    assert foreseen["changed"] and not foreseen["fetched"]
    assert bench.present(access=access._replace(file_mode=0o644))["changed"]
    assert not bench.present(access=access._replace(file_mode=0o644))["changed"]


def test_check_mode_tells_what_would_come(bench):
    result = bench.present(check=True)
    assert result["changed"] and result["fetched"] == sorted(bench.stored)
    assert result["fetched_bytes"] == sum(map(len, bench.stored.values()))
    assert result["diff"]["before"] == {"refs": {"main": None}, "files": {}}
    assert result["diff"]["after"]["files"]["config.json"] == len(bench.stored["config.json"])
    assert not bench.cache.exists()
    assert not [one for one in bench.hub.requests if "/resolve/" in one.path]


def test_what_others_fetched_is_hashed_once(bench):
    huggingface_hub.snapshot_download(
        "acme/tiny", endpoint=bench.hub.endpoint, cache_dir=bench.cache, ignore_patterns=["*.bin", "*.py", "*.onnx"]
    )
    blob = bench.repo / "blobs" / etag(bench.stored[FIRST])
    content = bytearray(blob.read_bytes())
    content[1000] ^= 1
    blob.write_bytes(content)
    sent = bench.sent()
    assert bench.present(check=True)["pending"]
    result = bench.present()
    assert result["fetched"] == [FIRST] and result["changed"]
    assert bench.sent() - sent == len(content)
    assert bench.content() == bench.stored
    assert not bench.present()["changed"]


def test_a_store_that_all_repos_share_is_understood(bench):
    """Since release 2, the client keeps blobs in one store and links to them (utils/_shared_blobs.py)."""
    bench.present(revision=bench.commit())
    blob = bench.repo / "blobs" / etag(bench.stored[FIRST])
    shared = bench.cache / "blobs" / "ab" / "hash"
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to("../../blobs/ab/hash")
    asked = len(bench.hub.requests)
    assert not bench.present(revision=bench.commit())["changed"]
    assert bench.verified(revision=bench.commit())["problems"] == []
    assert len(bench.hub.requests) == asked


def test_a_reboot_makes_what_was_not_flushed_be_hashed_again(bench, monkeypatch):
    bench.present()
    receipts = json.loads((bench.repo / "gpufleet/receipts.json").read_text())
    assert receipts["waiting"] and not receipts["flushed"]
    blob = bench.repo / "blobs" / etag(bench.stored[FIRST])
    status = blob.stat()
    blob.write_bytes(b"\0" * status.st_size)
    os.utime(blob, ns=(status.st_atime_ns, status.st_mtime_ns))
    monkeypatch.setattr("ansible_collections.gpufleet.vllm.plugins.module_utils._hub.store.boot_id", lambda: "next")
    assert bench.present()["fetched"] == [FIRST]
    # Found complete by a run in the same boot, everything is flushed, and trusted after the next one.
    bench.present()
    receipts = json.loads((bench.repo / "gpufleet/receipts.json").read_text())
    assert receipts["flushed"] and not receipts["waiting"]


# --- interruptions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [0, 1, 40 * 1024 - 1, 40 * 1024])
def test_a_small_file_goes_on_where_it_ended(bench, position):
    name = "model-00002-of-00002.safetensors"
    content = bench.stored[name]
    partial = bench.repo / "blobs" / (etag(content) + ".incomplete")
    partial.parent.mkdir(parents=True)
    partial.write_bytes(content[:position])
    result = bench.present()
    assert bench.content() == bench.stored and bench.left() == []
    assert bench.sent("00002-of") == len(content) - position
    assert result["resumed_bytes"] == position


@pytest.mark.parametrize("position", [1, 65535, 65536, 65537, 200_000, 307_199])
def test_a_file_that_an_older_client_began_is_continued(bench, position):
    """Up to release 1.17 the client wrote <etag>.incomplete from the beginning on; here our segments are 64 KiB."""
    content = bench.stored[FIRST]
    partial = bench.repo / "blobs" / (etag(content) + ".incomplete")
    partial.parent.mkdir(parents=True)
    partial.write_bytes(content[:position])
    bench.present()
    assert bench.content() == bench.stored and bench.left() == []
    assert bench.sent("00001-of") == len(content) - position


def test_each_segment_goes_on_where_it_ended(bench, places):
    content, step = bench.stored[FIRST], 64 * places.kib
    repo = Repo(str(bench.cache), "acme/tiny", Access())
    repo.prepare(bench.commit())
    partial = fetch.Partial(repo, File(FIRST, len(content), etag(content)), step)
    partial.open()
    done = {0: 10, 1: step, 3: 777}
    for segment, count in done.items():
        partial.write(segment, memoryview(content[segment * step : segment * step + count]))
    partial.close()
    foreseen = bench.present(check=True)
    assert foreseen["resumed_bytes"] == sum(done.values())
    bench.present()
    assert bench.sent("00001-of") == len(content) - sum(done.values())
    assert bench.content() == bench.stored and bench.left() == []


def test_the_connection_breaks_off_again_and_again(bench):
    for position in range(0, 300 * 1024, 20_000):
        bench.hub.fail(FIRST, cut_at=position)
    bench.present()
    assert bench.content() == bench.stored
    assert bench.sent("00001-of") == len(bench.stored[FIRST])


def test_no_further_byte_ends_it_and_keeps_what_is_there(bench):
    bench.hub.fail(FIRST, times=1000, cut_at=1000)
    with pytest.raises(FleetError, match="without a further byte") as failed:
        bench.present(connections=1)
    assert failed.value.details["kind"] == "unreachable"
    partial = bench.repo / "blobs" / (etag(bench.stored[FIRST]) + ".incomplete")
    assert partial.stat().st_size == 1000


# --- what a hub may do ----------------------------------------------------------------------------------------------


def test_a_wrong_body_is_found_and_fetched_again(bench):
    """The client itself would accept it over HTTP (huggingface_hub 2.4.0, file_download.py, http_get: size only)."""
    bench.hub.fail(FIRST, wrong_at=1234)
    bench.hub.fail("config.json", wrong_at=3)
    bench.present()
    assert bench.content() == bench.stored


def test_a_body_that_stays_wrong_is_an_error_and_nothing_is_kept(bench):
    bench.hub.fail(FIRST, times=1000, wrong_at=1234)
    with pytest.raises(FleetError, match=f"{FIRST} with a wrong content, twice") as failed:
        bench.present()
    assert failed.value.details["kind"] == "wrong_content"
    assert not (bench.repo / "blobs" / etag(bench.stored[FIRST])).exists()
    assert not (bench.snapshot() / FIRST).exists()
    # A snapshot that is not whole has no ref, so that nobody takes it for one.
    assert not (bench.repo / "refs").exists()


def test_ranges_are_ignored(bench):
    bench.hub.fail(FIRST, times=1000, no_ranges=True)
    bench.present()
    assert bench.content() == bench.stored


@pytest.mark.parametrize("status", [429, 500, 503])
def test_refusals_that_pass(bench, status):
    bench.hub.fail("/api/models/acme/tiny", times=2, status=status, retry_after="0")
    bench.hub.fail("config.json", times=2, status=status, retry_after="0")
    bench.hub.fail(FIRST, times=2, status=status)
    bench.present()
    assert bench.content() == bench.stored


@pytest.mark.parametrize("path", ["/api/models/acme/tiny", "config.json"])
def test_a_wait_that_is_too_long(bench, path):
    bench.hub.fail(path, times=1000, status=429, retry_after="7200")
    begin = time.monotonic()
    with pytest.raises(FleetError, match="asks to wait 7200 s .* more than the 300 s of retry_after_limit"):
        bench.present()
    # Less than what was asked for.
    assert time.monotonic() - begin < 600


def test_a_wait_is_kept(bench, monkeypatch):
    waits = []
    monkeypatch.setattr("threading.Event.wait", lambda self, timeout=None: waits.append(timeout))
    bench.hub.fail(FIRST, status=429, retry_after="17")
    bench.present(connections=1)
    assert 17 in waits


@pytest.mark.parametrize(
    "changes, kind, words",
    [
        ({"repo": "acme/gated"}, "gated", "without the right token"),
        ({"repo": "acme/gated", "token": "hf_wrong"}, "gated", "without the right token"),
        ({"repo": "acme/none"}, "not_there", "does not have acme/none at main"),
        ({"revision": "v9"}, "not_there", "the revision is not there"),
        ({"repo": "acme/../x"}, "invalid_repo_id", "is no repo id"),
        ({"revision": "../main"}, "invalid_revision", "is no revision"),
    ],
)
def test_refusals(bench, changes, kind, words):
    bench.add("acme/gated", {"config.json": b"{}"})
    with pytest.raises(FleetError, match=words) as failed:
        bench.present(**changes)
    assert failed.value.details["kind"] == kind
    assert "hf_wrong" not in str(failed.value)
    assert not bench.cache.exists()


def test_a_token_opens_and_goes_to_the_hub_only(bench):
    bench.add("acme/gated", {"config.json": b"{}", "model.safetensors": b"x" * 1000})
    result = bench.present(repo="acme/gated", token="hf_right")
    assert result["fetched"] == ["config.json", "model.safetensors"]
    assert "hf_right" not in json.dumps(result)
    assert {(one.origin, one.token) for one in bench.hub.requests} == {("hub", "hf_right"), ("storage", None)}


def test_a_repo_that_moved_is_kept_under_the_name_it_was_asked_for(bench):
    result = bench.present(repo="acme/former")
    assert result["path"].startswith(str(bench.cache / "models--acme--former"))
    assert len(result["fetched"]) == len(bench.stored)


def test_no_way_to_the_hub(bench):
    with pytest.raises(FleetError, match=r"http://127.0.0.1:1 cannot be asked for acme/tiny at main"):
        bench.present(endpoint="http://user:secret@127.0.0.1:1")


def test_offline_is_said(bench, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FleetError) as failed:
        bench.present()
    assert failed.value.details["kind"] in ("offline", "unreachable")


# --- policy ---------------------------------------------------------------------------------------------------------


def test_disk_too_small(bench, monkeypatch):
    bench.cache.mkdir()
    free = os.statvfs(bench.cache)
    with pytest.raises(FleetError, match="are lacking. Nothing was fetched") as failed:
        bench.present(min_free=free.f_bavail * free.f_frsize + 10**12)
    assert failed.value.details["needed_bytes"] == sum(len(body) for body in set(bench.stored.values()))
    assert list(bench.cache.iterdir()) == []


def test_weights_that_are_pickles_only(bench):
    bench.add("acme/old", {"config.json": b"{}", "pytorch_model.bin": b"x"})
    with pytest.raises(FleetError, match="only as pickles.*pytorch_model.bin"):
        bench.present(repo="acme/old")
    assert bench.present(repo="acme/old", allow_pickle=True)["fetched"] == ["config.json", "pytorch_model.bin"]


def test_code_needs_a_commit_and_its_other_repos(bench):
    with pytest.raises(FleetError, match="can be other code tomorrow"):
        bench.present(allow_code=True)
    assert "modeling_tiny.py" in bench.present(allow_code=True, revision=bench.commit())["fetched"]
    config = b'{"auto_map": {"AutoModel": "acme/code--modeling.Model", "AutoConfig": ["acme/tiny--a.B", null]}}'
    bench.add("acme/other", {"config.json": config, "model.safetensors": b"x"})
    bench.add("acme/code", {"modeling.py": b"x", "config.json": b"{}"})
    wanted = {"repo": "acme/other", "allow_code": True, "revision": bench.commit("acme/other")}
    with pytest.raises(FleetError, match="acme/code, acme/tiny|acme/code") as failed:
        bench.present(**wanted)
    assert failed.value.details == {"kind": "other_code", "repos": ["acme/code", "acme/tiny"]}
    assert not (bench.cache / "models--acme--other").exists()
    bench.present(repo="acme/code", scope="config")
    bench.present()
    assert bench.present(**wanted)["changed"]


def test_of_several_gguf_one_must_be_named(bench):
    names = ["m-Q4_K_M.gguf", "m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"]
    bench.add("acme/packed", {name: name.encode() for name in names})
    with pytest.raises(FleetError, match="several models in GGUF: m-Q4_K_M.gguf"):
        bench.present(repo="acme/packed")
    assert bench.present(repo="acme/packed", allow=("*Q8_0*",))["fetched"] == names[1:]


# --- verify ---------------------------------------------------------------------------------------------------------


def test_a_flipped_bit_is_named_and_mended(bench):
    bench.present()
    assert bench.verified()["problems"] == [] and bench.verified()["listed"]
    blob = bench.repo / "blobs" / etag(bench.stored[FIRST])
    status = blob.stat()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 128
    blob.write_bytes(content)
    os.utime(blob, ns=(status.st_atime_ns, status.st_mtime_ns))
    (bench.snapshot() / "config.json").unlink()
    with pytest.raises(FleetError, match="2 of the 9 files of acme/tiny") as failed:
        bench.verified()
    found = {one["file"]: one["kind"] for one in failed.value.details["problems"]}
    assert found == {FIRST: "content", "config.json": "missing"}
    asked = len(bench.hub.requests)
    with pytest.raises(FleetError):
        bench.verified()
    assert len(bench.hub.requests) == asked
    assert bench.present(verify=True)["fetched"] == [FIRST]
    assert bench.verified()["problems"] == []


def test_what_is_not_there_is_not_verified(bench):
    with pytest.raises(FleetError, match="is not in the cache"):
        bench.verified()


def test_a_cache_of_others_is_verified_by_the_names_of_its_blobs(bench):
    huggingface_hub.snapshot_download("acme/tiny", endpoint=bench.hub.endpoint, cache_dir=bench.cache)
    for path in (bench.repo / "trees").glob("*") if (bench.repo / "trees").exists() else []:
        path.unlink()
    result = bench.verified()
    assert result["listed"] is False and len(result["files"]) == 9
    blob = bench.repo / "blobs" / etag(bench.stored[FIRST])
    blob.write_bytes(b"\0" * len(bench.stored[FIRST]))
    with pytest.raises(FleetError, match=FIRST):
        bench.verified()


def test_a_run_that_finds_all_there_after_waiting_fetches_nothing(bench, monkeypatch):
    """As when two hosts share a cache: the second one waits for the lock, and then looks again."""
    request = bench.request()
    repo = Repo(str(bench.cache), "acme/tiny", Access())
    hub = change.Hub(request.endpoint, None, 300)
    state = snapshot.look(repo, hub.list_files("acme/tiny", "main"), request.wanted)
    bench.present()
    sent = bench.sent()
    assert not change.bring(repo, request, state, False, bench.tell)["changed"]
    assert bench.sent() == sent
