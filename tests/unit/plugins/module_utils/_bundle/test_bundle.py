# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles of snapshots and files, made and loaded: whole, in parts, as deltas, damaged, interrupted, and hostile."""

from __future__ import annotations

import builtins
import errno
import fcntl
import json
import os
import pathlib
import random
import subprocess
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle import (
    files,
    inventory,
    manifest,
    media,
    signature,
    verify,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub import cache
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.sources import Asked, source_facts
from support import bundle

CONTENTS = {
    "config.json": b'{"a": 1}',
    "tokenizer.json": b"t" * 1500,
    "sub/model-1.safetensors": random.Random(1).randbytes(50_000),
    "sub/model-2.safetensors": random.Random(2).randbytes(30_000),
    "empty.txt": b"",
}
OTHER_COMMIT = "fedcba9876" * 4


@pytest.fixture
def sides(tmp_path: pathlib.Path) -> bundle.Sides:
    made = bundle.Sides(tmp_path)
    bundle.add_snapshot(made.near, CONTENTS, refs=("main", "private/gold"))
    (made.files / "deep").mkdir()
    (made.files / "deep/board.json").write_text("{}")
    (made.files / "run.sh").write_text("#!/bin/sh\n")
    (made.files / "run.sh").chmod(0o755)
    return made


def plain(sides: bundle.Sides) -> list[dict[str, t.Any]]:
    return [{"src": str(sides.files), "kind": "dashboard", "prefix": "grafana"}]


def loaded(sides: bundle.Sides, repo: str = bundle.REPO, revision: str | None = None) -> dict[str, bytes]:
    """The files of a snapshot of the far side, as the hub client finds them."""
    folder = pathlib.Path(cache.resolve(str(sides.far), repo, revision).path)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(sides: bundle.Sides, **changes: t.Any) -> str:
    """The error of a load that must fail, and must have changed nothing."""
    before = bundle.tree(sides.folder / "far")
    with pytest.raises(FleetError) as caught:
        sides.load(**changes)
    assert bundle.tree(sides.folder / "far") == before
    return str(caught.value)


def test_the_code_of_a_model_goes_along_without_the_weights_beside_it(sides: bundle.Sides) -> None:
    config = json.dumps({"auto_map": {"AutoModel": "acme/code--modeling_a.A", "AutoConfig": "acme/none--c.C"}}).encode()
    bundle.add_snapshot(sides.near, {"config.json": config, "model.safetensors": b"w"}, "acme/model", OTHER_COMMIT)
    bundle.add_snapshot(sides.near, {"modeling_a.py": b"class A: pass", "model.safetensors": b"big"}, "acme/code")
    snapshots = [{"repo_id": "acme/model", "scope": "model"}]
    foreseen, made = (sides.create(check=check, snapshots=snapshots) for check in (True, False))
    (note,) = made["notes"]
    assert note.startswith("The code of acme/model lies in acme/none, which does not go along")
    assert foreseen["notes"] == [note] and sides.create(snapshots=snapshots)["changed"] is False
    sides.load()
    assert loaded(sides, "acme/code") == {"modeling_a.py": b"class A: pass"}
    (there,) = source_facts([Asked("acme/model", None, "model")], str(sides.far))
    assert there["missing_code_repos"] == ["acme/none"]
    parts = [{"repo_id": "acme/model", "scope": "config"}, {"repo_id": "acme/code", "scope": "model"}]
    one = sides.create(dest=str(sides.folder / "parts"), snapshots=parts)
    assert one["notes"] == [] and [found["files"] for found in one["snapshots"]] == [1, 2]
    both = sides.create(dest=str(sides.folder / "both"), snapshots=snapshots + parts)
    assert [(found["repo_id"], found["files"]) for found in both["snapshots"]] == [("acme/model", 2), ("acme/code", 2)]


@pytest.mark.parametrize("bounds", [{}, {"file_bytes": 8192}, {"media_bytes": 1 << 16}, {"workers": 1}])
def test_what_is_bundled_is_there_on_the_far_side(sides: bundle.Sides, bounds: dict[str, int]) -> None:
    foreseen = sides.create(check=True, files=plain(sides), **bounds)
    assert foreseen["changed"] and not sides.bundle.exists()
    made = sides.create(files=plain(sides), **bounds)
    assert made["changed"] and made["written_bytes"] == made["bytes"] == sum(map(len, CONTENTS.values())) + 12
    before = bundle.tree(sides.folder)
    again = sides.create(files=plain(sides), **bounds)
    assert (again["changed"], again["written_bytes"], again["removed"]) == (False, 0, [])
    assert bundle.tree(sides.folder) == before

    planned = sides.load(check=True)
    assert planned["changed"] and not sides.far.exists()
    done = sides.load()
    assert done["changed"] and done["changes"] == planned["changes"]
    assert done["diff"] == planned["diff"] and "main of acme/tiny: absent" in done["diff"]["before"]
    assert loaded(sides) == loaded(sides, revision="private/gold") == CONTENTS
    assert (sides.far_files / "dashboards/grafana/deep/board.json").read_text() == "{}"
    assert (sides.far_files / "dashboards/grafana/run.sh").stat().st_mode & 0o777 == 0o755
    before = bundle.tree(sides.folder)
    again = sides.load()
    assert (again["changed"], again["changes"], again["written_bytes"]) == (False, [], 0)
    assert bundle.tree(sides.folder) == before


def test_a_bundle_is_the_same_to_the_bit(sides: bundle.Sides) -> None:
    sides.create(dest=str(sides.folder / "one"))
    sides.create(dest=str(sides.folder / "two"))
    one, two = ({name: entry[0] for name, entry in bundle.tree(sides.folder / dest).items()} for dest in ("one", "two"))
    assert one == two


def test_media_are_no_larger_than_asked_and_each_knows_the_whole(sides: bundle.Sides) -> None:
    made = sides.create(media_bytes=1 << 16)
    roots = sorted(sides.bundle.iterdir())
    assert len(roots) == made["media"] == 2
    for root in roots:
        assert sum(-(-path.stat().st_size // 4096) * 4096 for path in root.rglob("*") if path.is_file()) <= 1 << 16
    moved = [root.rename(sides.folder / f"disc{number}") for number, root in enumerate(roots)]
    message = refused(sides, src=[str(moved[0])])
    assert "media-002 is not here" in message
    assert sides.load(src=[str(one) for one in reversed(moved)])["changed"]
    assert loaded(sides) == CONTENTS


def test_another_size_of_media_makes_the_bundle_anew_and_leaves_nothing(sides: bundle.Sides) -> None:
    sides.create(media_bytes=1 << 16)
    sides.create()
    assert not list(sides.bundle.glob("media-*"))
    sides.create(media_bytes=1 << 16)
    assert sorted(path.name for path in sides.bundle.iterdir()) == ["media-001", "media-002"]
    assert sides.load()["changed"]


def test_what_is_no_longer_asked_for_is_removed(sides: bundle.Sides) -> None:
    sides.create(files=plain(sides))
    result = sides.create()
    assert result["changed"] and len(result["removed"]) == 2 and result["written_bytes"] == 0
    assert "dashboard" in result["diff"]["before"] and "dashboard" not in result["diff"]["after"]


# --- damage ---------------------------------------------------------------------------------------------------------


def test_a_flipped_bit_anywhere_is_found_and_named(sides: bundle.Sides) -> None:
    sides.create(files=plain(sides), file_bytes=8192)
    blobs = [path for path in sides.bundle.rglob("*") if path.is_file() and path.stat().st_size]
    chance = random.Random(3)
    for path in blobs:
        good = path.read_bytes()
        for position in sorted({0, len(good) - 1, chance.randrange(len(good))}):
            damaged = bytearray(good)
            damaged[position] ^= 1 << chance.randrange(8)
            path.write_bytes(damaged)
            assert path.name in refused(sides)
        path.write_bytes(good)
    assert sides.load()["changed"]


def test_what_the_damaged_file_belongs_to_is_named(sides: bundle.Sides) -> None:
    sides.create(file_bytes=20_000)
    document = manifest.decode((sides.bundle / "manifest.json").read_bytes(), "")
    second = document.cut[bundle.etag(CONTENTS["sub/model-1.safetensors"])].pieces[1]
    path = next(sides.bundle.rglob(second))
    path.write_bytes(path.read_bytes()[:-1])
    message = refused(sides)
    assert "has 19999 bytes instead of 20000" in message
    assert "sub/model-1.safetensors of acme/tiny (piece 2)" in message
    path.unlink()
    assert f"blob {second} is missing" in refused(sides)


def test_exchanged_blobs_are_found(sides: bundle.Sides) -> None:
    sides.create(file_bytes=10_000)
    document = manifest.decode((sides.bundle / "manifest.json").read_bytes(), "")
    pieces = document.cut[bundle.etag(CONTENTS["sub/model-1.safetensors"])].pieces
    one, two = (next(sides.bundle.rglob(piece)) for piece in pieces[:2])
    aside = sides.folder / "aside"
    for source, target in ((one, aside), (two, one), (aside, two)):
        source.rename(target)
    message = refused(sides)
    assert one.name in message and two.name in message


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "link to the folder"])
def test_blobs_that_are_no_files_are_refused(sides: bundle.Sides, kind: str) -> None:
    sides.create()
    path = next(sides.bundle.rglob(bundle.etag(CONTENTS["sub/model-1.safetensors"])))
    aside = sides.folder / "aside"
    if kind == "link to the folder":
        path.parent.rename(aside)
        path.parent.symlink_to(aside)
        assert "missing" in refused(sides)
        return
    path.rename(aside)
    if kind == "link":
        path.symlink_to(aside)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert "is no plain file" in refused(sides)


def test_extra_files_are_told_and_not_used(sides: bundle.Sides) -> None:
    sides.create()
    stray = sides.bundle / "blobs/sha256/aa" / ("a" * 64)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"x")
    (sides.bundle / "blobs/sha256/note.txt").write_text("x")
    assert sorted(pathlib.Path(one).name for one in sides.load()["extra"]) == ["a" * 64, "note.txt"]


def test_media_of_two_bundles_are_refused(sides: bundle.Sides) -> None:
    sides.create(media_bytes=1 << 16)
    sides.create(media_bytes=1 << 16, name="other", dest=str(sides.folder / "other"))
    message = refused(sides, src=[str(sides.bundle / "media-001"), str(sides.folder / "other/media-002")])
    assert "is of another bundle" in message
    assert "There is no bundle in" in refused(sides, src=[str(sides.folder / "nothing")])


# --- signatures -----------------------------------------------------------------------------------------------------


def test_only_bundles_of_those_who_are_trusted_are_loaded(sides: bundle.Sides) -> None:
    allowed = bundle.keys(sides.folder, "alice", "mallory")
    signers = {"allowed_signers": str(allowed)}
    sides.create()
    assert "is not signed" in refused(sides, **signers)
    assert "Nobody was said" in refused(sides, unsigned=False)
    sides.create(sign_key=str(sides.folder / "mallory"))
    assert "not signed by anybody in" in refused(sides, **signers)
    result = sides.create(sign_key=str(sides.folder / "alice"))
    assert result["changed"] and result["signed"]
    assert sides.create(sign_key=str(sides.folder / "alice"))["changed"] is False
    assert "not by bob" in refused(sides, signer="bob", **signers)
    assert sides.load(signer="alice", **signers)["signer"] == "alice"
    # Whoever says whom to trust is not served an unsigned one, whatever else is said.
    (sides.bundle / "manifest.json.sig").unlink()
    assert "is not signed" in refused(sides, unsigned=True, **signers)


def test_an_earlier_bundle_is_refused_where_one_is_asked_for(sides: bundle.Sides) -> None:
    allowed, key = str(bundle.keys(sides.folder, "alice")), str(sides.folder / "alice")
    earlier = sides.create(sign_key=key, name="earlier", dest=str(sides.folder / "earlier"))
    now = sides.create(sign_key=key)
    assert len({earlier["digest"], now["digest"]}) == 2
    message = refused(sides, src=[str(sides.folder / "earlier")], allowed_signers=allowed, digest=now["digest"])
    assert earlier["digest"] in message and now["digest"] in message
    loaded_now = sides.load(allowed_signers=allowed, digest=now["digest"].upper())
    assert loaded_now["digest"] == now["digest"] and sides.create(sign_key=key)["digest"] == now["digest"]


def test_a_state_file_that_cannot_be_written_is_said(sides: bundle.Sides) -> None:
    sides.create()
    with pytest.raises(FleetError, match=r"state_path .*/no/state\.json cannot be written"):
        sides.load(state_path=str(sides.folder / "no/state.json"))


def test_a_signature_for_something_else_or_of_something_else_does_not_hold(sides: bundle.Sides) -> None:
    allowed = bundle.keys(sides.folder, "alice")
    key = str(sides.folder / "alice")
    sides.create(sign_key=key)
    text, path = (sides.bundle / "manifest.json").read_bytes(), sides.bundle / "manifest.json.sig"
    good = path.read_bytes()
    for purpose, signed in (("git", text), (signature.NAMESPACE, text + b" ")):
        made = signature._ssh_keygen(["-Y", "sign", "-f", key, "-n", purpose], signed)
        path.write_bytes(made.stdout)
        assert "does not hold" in refused(sides, allowed_signers=str(allowed))
    damaged = bytearray(good)
    damaged[len(good) // 2] ^= 1
    path.write_bytes(damaged)
    refused(sides, allowed_signers=str(allowed))


# --- deltas ---------------------------------------------------------------------------------------------------------


def take_inventory(sides: bundle.Sides) -> str:
    """What the far side has, as its file."""
    _paths, sizes = inventory.take(str(sides.far), str(sides.far_files), files.Receipts(None), 2, by_name=True)
    path = sides.folder / "far.json"
    path.write_bytes(inventory.encode(inventory.Inventory(sizes, [])))
    return str(path)


def test_a_delta_of_one_changed_file_moves_that_file(sides: bundle.Sides) -> None:
    sides.create(files=plain(sides))
    sides.load()
    changed = {**CONTENTS, "tokenizer.json": b"new"}
    bundle.add_snapshot(sides.near, changed, commit=OTHER_COMMIT)
    delta = {"dest": str(sides.folder / "delta"), "state_path": str(sides.bundle) + ".state.json"}
    made = sides.create(inventory=take_inventory(sides), files=plain(sides), **delta)
    assert made["written_bytes"] == made["bytes"] == 3
    assert made["left_out_bytes"] == sum(map(len, CONTENTS.values())) - 1500 + 12
    assert len([path for path in (sides.folder / "delta").rglob("*") if path.is_file()]) == 2
    done = sides.load(src=[delta["dest"]])
    assert done["written_bytes"] == 3
    assert loaded(sides) == changed and loaded(sides, revision=bundle.COMMIT) == CONTENTS
    assert sides.load(src=[delta["dest"]])["changed"] is False


def test_a_delta_takes_from_other_repos_of_the_host(sides: bundle.Sides) -> None:
    sides.create()
    sides.load()
    bundle.add_snapshot(sides.near, CONTENTS, repo_id="acme/copy")
    made = sides.create(inventory=take_inventory(sides), snapshots=[{"repo_id": "acme/copy"}])
    assert made["bytes"] == 0
    sides.load()
    assert loaded(sides, "acme/copy") == CONTENTS


def test_a_delta_is_refused_where_what_it_leaves_out_is_missing_or_damaged(sides: bundle.Sides) -> None:
    sides.create()
    sides.load()
    bundle.add_snapshot(sides.near, {**CONTENTS, "config.json": b"{}"}, repo_id="acme/other")
    sides.create(inventory=take_inventory(sides), snapshots=[{"repo_id": "acme/other"}])
    name = bundle.etag(CONTENTS["sub/model-1.safetensors"])
    blob = next(sides.far.rglob(f"blobs/{name}"))
    blob.write_bytes(b"x" + CONTENTS["sub/model-1.safetensors"][1:])
    assert f"{blob} is damaged" in refused(sides)
    blob.unlink()
    message = refused(sides)
    assert f"sub/model-1.safetensors of acme/other: {name} is not on this host" in message


def test_a_sparse_file_of_100_gb_that_the_far_side_has_is_not_read(sides: bundle.Sides) -> None:
    size = 100 * 10**9
    name = "9" * 64
    snapshot = bundle.add_snapshot(sides.near, {"config.json": b"{}"}, commit=OTHER_COMMIT)
    blob = snapshot.parent.parent / "blobs" / name
    with open(blob, "wb") as handle:
        handle.truncate(size)
    (snapshot / "model.safetensors").symlink_to(f"../../blobs/{name}")
    path = sides.folder / "far.json"
    path.write_bytes(inventory.encode(inventory.Inventory({name: size}, [])))
    made = sides.create(inventory=str(path), snapshots=[{"repo_id": bundle.REPO, "revision": OTHER_COMMIT}])
    assert (made["written_bytes"], made["left_out_bytes"]) == (2, size)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "gpufleet-inventory", "version": 1, "blobs": {"x": 1}, "chains": []}']
)
def test_what_is_no_inventory_is_refused(sides: bundle.Sides, text: str) -> None:
    path = sides.folder / "far.json"
    path.write_text(text)
    with pytest.raises(FleetError, match="is no inventory of a host, and nothing was written"):
        sides.create(inventory=str(path))


# --- the target -----------------------------------------------------------------------------------------------------


def test_damage_on_the_far_side_is_mended(sides: bundle.Sides) -> None:
    sides.create(files=plain(sides))
    sides.load()
    repo = sides.far / "models--acme--tiny"
    blob = repo / "blobs" / bundle.etag(CONTENTS["sub/model-1.safetensors"])
    blob.write_bytes(b"x" + CONTENTS["sub/model-1.safetensors"][1:])
    link = repo / "snapshots" / bundle.COMMIT / "config.json"
    link.unlink()
    link.write_text("another")
    (repo / "refs/main").write_text(bundle.COMMIT + "\n")
    (sides.far_files / "dashboards/grafana/run.sh").chmod(0o600)
    result = sides.load()
    assert sorted(change["before"] for change in result["changes"]) == sorted(
        ["damaged", "another file", bundle.COMMIT + "\n", "other owner or mode"]
    )
    assert loaded(sides) == CONTENTS
    assert sides.load()["changed"] is False


def test_owner_group_and_mode_are_set_and_kept(sides: bundle.Sides) -> None:
    sides.create()
    owner = {"owner": str(os.getuid()), "group": str(os.getgid()), "mode": "0640"}
    sides.load(**owner)
    blob = next((sides.far / "models--acme--tiny/blobs").iterdir())
    assert blob.stat().st_mode & 0o777 == 0o640
    assert (sides.far / "models--acme--tiny/snapshots").stat().st_mode & 0o777 == 0o750
    blob.chmod(0o600)
    assert [change["before"] for change in sides.load(**owner)["changes"]] == ["other owner or mode"]
    assert blob.stat().st_mode & 0o777 == 0o640
    message = refused(sides, owner="nobody-of-this-name", mode="rw")
    assert "does not exist on this host" in message and "has to be like" in message


def test_folders_that_nobody_may_enter_are_mended(sides: bundle.Sides) -> None:
    sides.create(files=plain(sides))
    sides.load()
    repo = sides.far / "models--acme--tiny"
    # As a run leaves them that is killed between making and opening them; the last lets more in than asked.
    for folder in (repo, repo / "snapshots" / bundle.COMMIT / "sub", sides.far_files / "dashboards/grafana"):
        folder.chmod(0o700)
    (repo / "blobs").chmod(0o2775)
    told = sides.load(check=True)
    assert told["changed"] and repo.stat().st_mode & 0o777 == 0o700
    result = sides.load()
    assert len(result["changes"]) == len(told["changes"]) == 3
    for folder in [sides.far, sides.far_files, *sides.far.rglob("*"), *sides.far_files.rglob("*")]:
        assert not folder.is_dir() or folder.stat().st_mode & 0o755 == 0o755
    assert (repo / "blobs").stat().st_mode & 0o7777 == 0o2775
    assert sides.load()["changed"] is False


def test_a_key_that_cannot_sign_is_found_before_anything_is_written(sides: bundle.Sides) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "a phrase", "-f", sides.folder / "key"], check=True)
    for key in ("key", "no-such-key"):
        with pytest.raises(signature.BadSignature, match="could not be signed"):
            sides.create(sign_key=str(sides.folder / key))
    assert not sides.bundle.exists()


def test_left_overs_are_removed_where_locks_are_those_of_nfs(
    sides: bundle.Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock

    def of_nfs(handle: t.Any, operation: int) -> None:
        """flock(2): over NFS, an exclusive lock needs a file that is open for writing."""
        number = handle if isinstance(handle, int) else handle.fileno()
        if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        real(handle, operation)

    def of_none(_handle: t.Any, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    sides.create()
    blobs = sides.far / "models--acme--tiny/blobs"
    blobs.mkdir(parents=True)
    (blobs / (files.PARTIAL + "0")).write_bytes(b"left")
    monkeypatch.setattr(fcntl, "flock", of_nfs)
    sides.load()
    assert loaded(sides) == CONTENTS and not list(sides.far.rglob(files.PARTIAL + "*"))
    # Where there are none at all, nobody knows whether another run is writing it.
    monkeypatch.setattr(fcntl, "flock", of_none)
    (blobs / (files.PARTIAL + "0")).write_bytes(b"left")
    (sides.far / "models--acme--tiny/refs/main").unlink()
    next(blobs.iterdir()).unlink()
    sides.load()
    assert loaded(sides) == CONTENTS


def test_nothing_is_written_through_links_of_the_far_side(sides: bundle.Sides) -> None:
    sides.create()
    outside = sides.folder / "outside"
    outside.mkdir()
    (sides.far / "models--acme--tiny").mkdir(parents=True)
    (sides.far / "models--acme--tiny/snapshots").symlink_to(outside)
    with pytest.raises(FleetError, match="is no folder"):
        sides.load()
    assert not list(outside.iterdir())


def test_without_room_nothing_is_written(sides: bundle.Sides) -> None:
    with pytest.raises(FleetError, match=r"has \d+ bytes free, needed are \d+ .* too few"):
        sides.create(reserve_bytes=10**18)
    sides.create()
    assert "There is not enough room, and nothing was changed" in refused(sides, reserve_bytes=10**18)


def test_parts_are_loaded_apart(sides: bundle.Sides) -> None:
    sides.create(files=plain(sides))
    sides.load(parts=["files"])
    assert not sides.far.exists() and sides.far_files.exists()
    assert "give files_dir" in refused(sides, files_dir=None)
    sides.load(parts=["snapshots"], files_dir=None)
    assert loaded(sides) == CONTENTS


# --- the source -----------------------------------------------------------------------------------------------------


def test_a_hostile_or_damaged_cache_makes_no_bundle(sides: bundle.Sides) -> None:
    snapshot = sides.near / "models--acme--tiny/snapshots" / bundle.COMMIT
    secret = sides.folder / "secret"
    secret.write_text("s")
    for name, target, fault in (
        ("out", secret, "is a link out of the cache"),
        ("folder", sides.near, "is a link to a folder"),
        ("CONFIG.json", "../../blobs/" + bundle.etag(CONTENTS["config.json"]), "it collides with"),
        ("a\nb", "../../blobs/" + bundle.etag(CONTENTS["config.json"]), "control character"),
    ):
        (snapshot / name).symlink_to(target)
        with pytest.raises(FleetError, match=fault):
            sides.create()
        (snapshot / name).unlink()
    blob = sides.near / "models--acme--tiny/blobs" / bundle.etag(CONTENTS["config.json"])
    blob.write_bytes(b'{"a": 2}')
    with pytest.raises(FleetError, match=r"config\.json is not what its name in the cache says"):
        sides.create()
    blob.write_bytes(CONTENTS["config.json"])
    weights = sides.near / "models--acme--tiny/blobs" / bundle.etag(CONTENTS["sub/model-1.safetensors"])
    weights.write_bytes(bytes(50_000))
    with pytest.raises(FleetError, match=r"its SHA-256 is .* instead of"):
        sides.create()
    assert not list(sides.bundle.rglob("manifest.json"))


def test_of_a_repo_only_the_part_that_is_read_goes_along(sides: bundle.Sides) -> None:
    of = {"repo_id": bundle.REPO, "revision": "main"}
    sides.create(snapshots=[{**of, "scope": "tokenizer"}])
    sides.load()
    assert set(loaded(sides)) == {"config.json", "tokenizer.json"}
    sides.create(snapshots=[{**of, "scope": "tokenizer"}, {**of, "revision": bundle.COMMIT, "scope": "model"}])
    sides.load()
    assert loaded(sides) == CONTENTS


def test_a_model_without_weights_makes_no_bundle(sides: bundle.Sides) -> None:
    bundle.add_snapshot(sides.near, {"tokenizer.json": b"t"}, repo_id="acme/words")
    sides.create(snapshots=[{"repo_id": "acme/words"}])
    with pytest.raises(FleetError, match="has no weights. Pre-stage it with scope model"):
        sides.create(snapshots=[{"repo_id": "acme/words", "scope": "model"}])
    with pytest.raises(FleetError, match="has no file of the scope config"):
        sides.create(snapshots=[{"repo_id": "acme/words", "scope": "config"}])


def test_a_download_that_was_interrupted_makes_no_bundle(sides: bundle.Sides) -> None:
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
    bundle.add_snapshot(sides.near, {"model.safetensors.index.json": index, "model-1.safetensors": b"1"}, "acme/half")
    with pytest.raises(FleetError, match="is not whole: model-2.safetensors: model.safetensors.index.json lists it"):
        sides.create(snapshots=[{"repo_id": "acme/half"}])
    assert not sides.bundle.exists()
    # By what hf_snapshot noted before it began.
    own = sides.near / "models--acme--tiny/gpufleet"
    own.mkdir()
    listed = {"format": 1, "repo": bundle.REPO, "commit": bundle.COMMIT}
    files_of = {name: [len(content), bundle.etag(content)] for name, content in {**CONTENTS, "late": b"x"}.items()}
    (own / f"{bundle.COMMIT}.json").write_text(json.dumps({**listed, "files": files_of, "wanted": list(files_of)}))
    with pytest.raises(FleetError, match="late: it is missing. Pre-stage it again"):
        sides.create()


def test_everything_that_is_missing_is_told_at_once(sides: bundle.Sides) -> None:
    with pytest.raises(FleetError) as caught:
        sides.create(snapshots=[{"repo_id": "acme/no"}, {"repo_id": "../x"}], files=[{"src": "/no", "kind": "file"}])
    assert len(caught.value.details["faults"]) == 3
    with pytest.raises(FleetError, match="would be empty"):
        sides.create(snapshots=[])


def test_a_folder_whose_links_lead_out_is_refused(sides: bundle.Sides) -> None:
    (sides.files / "link").symlink_to("/etc/hostname")
    with pytest.raises(FleetError, match="a link out of"):
        sides.create(files=plain(sides))


def test_blobs_of_the_shared_store_are_brought_and_loaded_as_files(sides: bundle.Sides) -> None:
    blob = sides.near / "models--acme--tiny/blobs" / bundle.etag(CONTENTS["sub/model-1.safetensors"])
    shared = sides.near / "blobs/ab/abcdef"
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to("../../blobs/ab/abcdef")
    sides.create()
    sides.load()
    assert loaded(sides) == CONTENTS
    assert not any(path.is_symlink() for path in (sides.far / "models--acme--tiny/blobs").iterdir())


def test_what_is_known_is_not_read_again_and_rehash_reads_it(sides: bundle.Sides) -> None:
    sides.create()
    state = {"state_path": str(sides.folder / "verify.json")}

    def verified(rehash: bool) -> None:
        receipts = files.Receipts(state["state_path"], rehash)
        verify.verify([str(sides.bundle)], verify.Trust(None, None, True), receipts, 2)
        receipts.save()

    verified(False)
    path = next(sides.bundle.rglob(bundle.etag(CONTENTS["sub/model-1.safetensors"])))
    status = path.stat()
    document = json.loads((sides.folder / "verify.json").read_text())
    path.write_bytes(bytes(50_000))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(media.BadBundle):  # the time of the change of the inode cannot be put back
        verified(False)
    document["receipts"][str(path)][2] = path.stat().st_ctime_ns
    (sides.folder / "verify.json").write_text(json.dumps(document))
    verified(False)
    with pytest.raises(media.BadBundle):
        verified(True)


# --- interruption ---------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


class Knife:
    """Ends the process at the n-th change of the file system; what was done until then stays."""

    def __init__(self, patch: pytest.MonkeyPatch, count: int) -> None:
        self.left = count
        for place, name in (
            (os, "replace"), (os, "symlink"), (os, "mkdir"), (os, "unlink"), (os, "fsync"), (os, "open"),
        ):  # fmt: skip
            patch.setattr(place, name, self.wrap(getattr(place, name)))
        patch.setattr(builtins, "open", self.wrap(open))

    def wrap(self, real: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        def cut(*arguments: t.Any, **more: t.Any) -> t.Any:
            if self.left <= 0:
                raise Killed  # after that, nothing is tidied up either
            self.left -= 1
            return real(*arguments, **more)

        return cut


def test_making_that_is_interrupted_anywhere_is_completed(sides: bundle.Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    done, count = False, 0
    while not done:
        with monkeypatch.context() as patch:
            Knife(patch, count)
            try:
                sides.create(files=plain(sides), media_bytes=1 << 16, workers=1)
                done = True
            except Killed:
                count += 1
    assert count > 20
    result = sides.create(files=plain(sides), media_bytes=1 << 16, workers=1)
    assert (result["changed"], result["removed"]) == (False, [])
    assert not list(sides.bundle.rglob(files.PARTIAL + "*"))
    assert sides.load()["extra"] == []
    assert loaded(sides) == CONTENTS


def test_a_bundle_that_is_half_made_is_refused_whole(sides: bundle.Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    done, count, refusals = False, 0, 0
    while not done:
        dest = sides.folder / f"bundle{count}"
        with monkeypatch.context() as patch:
            Knife(patch, count)
            try:
                sides.create(dest=str(dest), files=plain(sides), media_bytes=1 << 16, workers=1)
                done = True
            except Killed:
                count += 1
        if not done:
            try:
                sides.load(src=[str(dest)], check=True)
            except FleetError:
                refusals += 1
    # Only the last steps, which write what nobody needs for loading, may have left a whole one.
    assert count - 10 < refusals <= count


def test_loading_that_is_interrupted_anywhere_is_completed(
    sides: bundle.Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides.create(files=plain(sides))
    sides.load(hub_cache=str(sides.folder / "whole"), files_dir=str(sides.folder / "whole-files"), workers=1)
    whole = sorted(bundle.tree(sides.folder / "whole"))
    done, count = False, 0
    while not done:
        with monkeypatch.context() as patch:
            Knife(patch, count)
            try:
                sides.load(workers=1)
                done = True
            except Killed:
                count += 1
        try:
            assert loaded(sides) == CONTENTS  # as soon as the ref is there, all of it is
        except cache.HubCacheError as error:
            assert error.details["kind"] in ("no_cache", "no_repo", "no_ref")
    assert count > 20
    assert sorted(bundle.tree(sides.far)) == whole
    assert sides.load()["changed"] is False
