# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The read side of the Hugging Face cache on real folders."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.cache import (
    HubCacheError,
    default_hub_cache,
    is_local_path,
    resolve,
    validate_repo_id,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "models--acme--tiny"


def make_cache(folder):
    """A cache with acme/tiny: config.json as a small blob, the weights in the store that repos share."""
    repo = folder / REPO
    snapshot = repo / "snapshots" / COMMIT
    for part in (snapshot, repo / "blobs", repo / "refs" / "pr", folder / "blobs" / "ab"):
        part.mkdir(parents=True)
    (repo / "blobs" / "etag1").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/etag1")
    (folder / "blobs" / "ab" / "abc").write_text("weights")
    (repo / "blobs" / "etag2").symlink_to("../../blobs/ab/abc")
    (snapshot / "model.safetensors").symlink_to("../../blobs/etag2")
    (repo / "refs" / "main").write_text(COMMIT)
    (repo / "refs" / "pr" / "1").write_text(COMMIT)
    return folder


@pytest.fixture
def cache(tmp_path):
    return make_cache(tmp_path)


@pytest.mark.parametrize("revision", [None, "main", "pr/1", COMMIT])
def test_resolves(cache, revision):
    found = resolve(str(cache), "acme/tiny", revision)
    assert found == (str(cache / REPO / "snapshots" / COMMIT), COMMIT)


def test_resolves_copies_without_blobs(cache):
    """A snapshot of plain files, as rsync -L or a cache without links makes it."""
    snapshot = cache / REPO / "snapshots" / COMMIT
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").write_text("{}")
    assert resolve(str(cache), "acme/tiny").commit == COMMIT


def no_cache(cache):
    return {"hub_cache": str(cache / "elsewhere")}


def no_ref(cache):
    (cache / REPO / "refs" / "main").unlink()


def newline_ref(cache):
    (cache / REPO / "refs" / "main").write_text(COMMIT + "\n")


def odd_ref(cache):
    (cache / REPO / "refs" / "main").write_text("<html>")


def no_snapshot(cache):
    (cache / REPO / "snapshots" / COMMIT).rename(cache / REPO / "snapshots" / ("f" * 40))


def no_shared_store(cache):
    (cache / "blobs" / "ab" / "abc").unlink()


def no_blob(cache):
    (cache / REPO / "blobs" / "etag1").unlink()


def nothing(cache):
    """The cache as it is."""


@pytest.mark.parametrize(
    "spoil, request_, kind, words",
    [
        (no_cache, {}, "no_cache", ["elsewhere is not there", "Pre-stage acme/tiny"]),
        (nothing, {"repo_id": "acme/other"}, "no_repo", ["acme/other", "models--acme--other is missing"]),
        (no_ref, {}, "no_ref", ["revision 'main'", "refs/main is missing", COMMIT]),
        (nothing, {"revision": COMMIT[:8]}, "no_ref", ["short commit"]),
        (nothing, {"revision": "pr"}, "no_ref", ["refs/pr is missing"]),
        (newline_ref, {}, "bad_ref", ["white space", "printf %s " + COMMIT]),
        (odd_ref, {}, "bad_ref", ["no commit of 40"]),
        (no_snapshot, {}, "no_snapshot", [COMMIT, "here are: " + "f" * 40]),
        (no_shared_store, {}, "dangling", ["1 file(s)", "model.safetensors", "store that repos share"]),
        (no_blob, {}, "dangling", ["config.json", "blobs folder is incomplete"]),
        (nothing, {"revision": "../../etc/passwd"}, "invalid_revision", ["../../etc/passwd"]),
        (nothing, {"revision": "/etc/passwd"}, "invalid_revision", []),
        (nothing, {"repo_id": "../acme/tiny"}, "invalid_repo_id", ["absolute path"]),
    ],
)
def test_says_what_is_missing(cache, spoil, request_, kind, words):
    arguments = {"hub_cache": str(cache), "repo_id": "acme/tiny", **request_, **(spoil(cache) or {})}
    with pytest.raises(HubCacheError) as caught:
        resolve(**arguments)
    assert caught.value.details["kind"] == kind
    for word in words:
        assert word in str(caught.value)


def test_being_kept_out_is_not_absence():
    """Read as another user where the test runs as root, who reads everything."""
    with tempfile.TemporaryDirectory() as folder:
        cache = make_cache(Path(folder))
        cache.chmod(0o755)
        (cache / REPO / "snapshots").chmod(0o000)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(HubCacheError) as caught:
                resolve(str(cache), "acme/tiny")
            assert f"user id {os.geteuid()}" in str(caught.value)
        finally:
            os.seteuid(user)
            (cache / REPO / "snapshots").chmod(0o700)
    assert caught.value.details["kind"] == "unreadable"


# The verdicts are those of huggingface_hub 2.4.0 (validate_repo_id).
@pytest.mark.parametrize(
    "repo_id, valid",
    [
        ("gpt2", True),
        ("Qwen/Qwen3-8B", True),
        ("a/b.c_d-e", True),
        ("a" * 96, True),
        ("a" * 97, False),
        ("a/b/c", False),
        ("a--b/c", False),
        ("a/b..c", False),
        ("-a/b", False),
        ("a/b.", False),
        ("a/b.git", False),
        ("a/b c", False),
        ("a/caf\u00e9", False),
        ("a/b\n", False),
        ("", False),
        ("./a", False),
        ("/srv/models/a", False),
    ],
)
def test_repo_ids(repo_id, valid):
    if valid:
        validate_repo_id(repo_id)
    else:
        with pytest.raises(HubCacheError):
            validate_repo_id(repo_id)


@pytest.mark.parametrize(
    "model, local", [("/srv/models/a", True), ("Qwen/Qwen3-8B", False), ("./a", False), ("gpt2", False)]
)
def test_local_paths(model, local):
    assert is_local_path(model) is local


@pytest.mark.parametrize(
    "environ, path",
    [
        ({"HF_HUB_CACHE": "/a", "HUGGINGFACE_HUB_CACHE": "/b", "HF_HOME": "/c", "XDG_CACHE_HOME": "/d"}, "/a"),
        ({"HUGGINGFACE_HUB_CACHE": "/b", "HF_HOME": "/c", "XDG_CACHE_HOME": "/d"}, "/b"),
        ({"HF_HOME": "/c", "XDG_CACHE_HOME": "/d"}, "/c/hub"),
        ({"XDG_CACHE_HOME": "/d"}, "/d/huggingface/hub"),
        ({"HF_HOME": ""}, os.path.expanduser("~/.cache/huggingface/hub")),
        ({}, os.path.expanduser("~/.cache/huggingface/hub")),
    ],
)
def test_default_cache(environ, path):
    assert default_hub_cache(environ) == path
