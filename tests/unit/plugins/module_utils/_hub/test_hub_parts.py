# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, lists, parameters and the lock."""

from __future__ import annotations

import json
import os

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.fetch import hash_of, retry_after
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.listing import File, from_data, from_tree, listing
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.parameters import access_of, token_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.progress import progress_writer
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.selection import code_repos
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.store import Access, Repo

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ETAG = "f" * 40


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "a/../../evil",
        "/etc/passwd",
        "a//b",
        "./a",
        "a/.",
        "",
        "a\0b",
        "a\nb",
        "a\\..\\b",
        "x" * 256,
        "\udc80",
    ],
)
def test_hostile_names(name):
    with pytest.raises(FleetError, match="is refused") as failed:
        listing("acme/tiny", COMMIT, [File("config.json", 1, ETAG), File(name, 1, ETAG)])
    assert failed.value.details["kind"] == "hostile"


def test_other_hostile_lists():
    for files in (
        [File("a", 1, "../../evil")],
        [File("a", 1, "")],
        [File("a", -1, ETAG)],
        [File("a", 1, ETAG), File("a/b", 1, ETAG)],
    ):
        with pytest.raises(FleetError):
            listing("acme/tiny", COMMIT, files)
    with pytest.raises(FleetError, match="no commit"):
        listing("acme/tiny", "../evil", [])


def test_a_list_comes_back_as_it_was():
    made = listing("acme/tiny", COMMIT, [File("b/c", 2, "a" * 64), File("a", 1, ETAG)])
    assert from_data(json.loads(json.dumps(made.as_data()))) == made


@pytest.mark.parametrize(
    "data", [None, [], {}, {"format": 2}, {"format": 1, "repo": "a", "commit": COMMIT, "files": 3}]
)
def test_a_list_of_another_kind_is_none(data):
    assert from_data(data) is None
    assert from_tree("a", COMMIT, data) is None


def test_a_kept_list_with_hostile_names_is_none():
    data = {"format": 1, "repo": "a", "commit": COMMIT, "files": {"../evil": [1, ETAG]}}
    assert from_data(data) is None
    tree = {"format_version": 1, "files": {"../evil": {"size": 1, "blob_id": ETAG}}}
    assert from_tree("a", COMMIT, tree) is None


def test_git_s_hash(tmp_path):
    """As `printf hello | git hash-object --stdin` tells it."""
    (tmp_path / "a").write_bytes(b"hello")
    assert hash_of(str(tmp_path / "a"), ETAG, 5) == "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"


@pytest.mark.parametrize("value, seconds", [(None, None), ("5", 5), ("x", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)])
def test_retry_after(value, seconds):
    assert retry_after(value) == seconds


def test_code_of_other_repos():
    assert code_repos({"auto_map": {"A": "x/y--m.C", "B": ["z--m.D", None], "C": "local.E"}}) == ["x/y", "z"]
    assert code_repos({}) == code_repos({"auto_map": 3}) == []


def test_access():
    assert access_of(None, None, "0644") == Access(None, None, 0o644)
    assert access_of(str(os.getuid()), "0", "640").dir_mode == 0o750
    assert access_of(None, None, "0600").dir_mode == 0o700
    for owner, group, mode in ((None, None, "u=rw"), (None, None, "0044"), ("no-such-user", None, "644")):
        with pytest.raises(FleetError):
            access_of(owner, group, mode)


def test_a_token_of_a_file(tmp_path):
    path = tmp_path / "token"
    path.write_text("hf_secret\n")
    path.chmod(0o600)
    assert token_of(None, str(path)) == "hf_secret"
    assert token_of("hf_given", None) == "hf_given"
    assert token_of("", None) is None
    path.chmod(0o644)
    with pytest.raises(FleetError, match="can be read by others"):
        token_of(None, str(path))
    path.chmod(0o600)
    for content in ("", "two words", "\x1b"):
        path.write_text(content)
        with pytest.raises(FleetError, match="holds no token") as failed:
            token_of(None, str(path))
        assert "words" not in str(failed.value)
    with pytest.raises(FleetError, match="No such file"):
        token_of(None, str(tmp_path / "none"))


def test_progress_is_lines_of_json(tmp_path):
    path = tmp_path / "progress"
    tell = progress_writer(str(path), "acme/tiny")
    tell("fetching", done=1, total=2)
    tell("fetching", done=2, total=2)
    begun, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert begun == {"pid": os.getpid()}
    assert [(line["subject"], line["stage"], line["done"]) for line in lines] == [
        ("acme/tiny", "fetching", 1),
        ("acme/tiny", "fetching", 2),
    ]
    for path in (None, "/dev/full", str(tmp_path / "no" / "folder")):
        progress_writer(path, "x")("fetching")


def test_a_broken_record_is_no_record(tmp_path):
    repo = Repo(str(tmp_path), "acme/tiny", Access())
    repo.prepare(COMMIT)
    own = tmp_path / "models--acme--tiny/gpufleet"
    (own / f"{COMMIT}.json").write_text("{")
    (own / "receipts.json").write_text("[]")
    assert repo.listing(COMMIT) is None and repo.receipts() == {}
    refs = tmp_path / "models--acme--tiny/refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT + "\n")
    assert repo.commit_of("main") is None
    assert repo.write_ref("main", COMMIT) and not repo.write_ref("main", COMMIT)


def test_what_a_killed_run_left_is_in_nobodys_way(tmp_path, monkeypatch):
    repo, file = Repo(str(tmp_path), "acme/tiny", Access()), File("config.json", 1, ETAG)
    repo.prepare(COMMIT)
    (tmp_path / "models--acme--tiny/blobs" / ETAG).write_bytes(b"x")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_paths: 1 / 0)
        for work in (lambda: repo.link(COMMIT, file), lambda: repo.write_ref("main", COMMIT)):
            with pytest.raises(ZeroDivisionError):
                work()
    # Nothing that a reader of the cache would take for a file of the model or for a revision.
    assert not os.listdir(repo.snapshot(COMMIT)) and not os.listdir(tmp_path / "models--acme--tiny/refs")
    # The next run has the same process id.
    repo.link(COMMIT, file)
    assert repo.write_ref("main", COMMIT) and os.listdir(repo.snapshot(COMMIT)) == ["config.json"]
    assert os.readlink(os.path.join(repo.snapshot(COMMIT), "config.json")) == f"../../blobs/{ETAG}"
