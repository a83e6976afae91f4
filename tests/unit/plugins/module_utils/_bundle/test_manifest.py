# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests of bundles: their text, what is refused in them, and their schema."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle import manifest, names


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def sample() -> manifest.Manifest:
    """A manifest with a little of everything."""
    blobs = {sha(one): manifest.Blob(10, 1) for one in ("config", "layer", "weights", "wheel", "piece 1", "piece 2")}
    blobs[sha("tokenizer")] = manifest.Blob(7, None)
    return manifest.Manifest(
        name="test",
        media=2,
        blobs=blobs,
        cut={sha("large"): manifest.Cut(20, (sha("piece 1"), sha("piece 2")))},
        images=(
            manifest.Image(
                sha("config"), None, ("acme/engine:1",), (manifest.Layer(sha("layer"), sha("layer")),), "amd64"
            ),
        ),
        snapshots=(
            manifest.Snapshot(
                "acme/tiny",
                "a" * 40,
                ("main", "private/one"),
                (
                    manifest.SnapshotFile("model.safetensors", sha("large"), sha("large")),
                    manifest.SnapshotFile("tokenizer.json", sha("tokenizer"), "b" * 40),
                    manifest.SnapshotFile("sub/config.json", sha("weights"), sha("weights")),
                ),
            ),
        ),
        files=(manifest.File("wheel", "a/b.whl", sha("wheel"), False),),
    )


def faults(bundle: manifest.Manifest) -> str:
    with pytest.raises(manifest.BadManifest) as caught:
        manifest.decode(manifest.encode(bundle), "here")
    assert "nothing was changed" in str(caught.value)
    return str(caught.value)


def test_a_manifest_survives_its_text() -> None:
    text = manifest.encode(sample())
    again = manifest.decode(text, "here")
    assert manifest.encode(again) == text
    assert again.size(sha("large")) == 20 and again.pieces(sha("large")) == (sha("piece 1"), sha("piece 2"))
    assert again.elsewhere(sha("tokenizer")) and not again.elsewhere(sha("large"))
    assert again.users_of_blobs()[sha("piece 2")] == ["model.safetensors of acme/tiny (piece 2)"]


def test_every_flipped_bit_of_a_manifest_is_found() -> None:
    text = manifest.encode(sample())
    for position in range(len(text)):
        for bit in (0, 3, 7):
            damaged = bytearray(text)
            damaged[position] ^= 1 << bit
            with pytest.raises(manifest.BadManifest):
                manifest.decode(bytes(damaged), "here")


def test_truncated_longer_and_reordered_texts_are_refused() -> None:
    text = manifest.encode(sample())
    for length in range(0, len(text), 37):
        with pytest.raises(manifest.BadManifest):
            manifest.decode(text[:length], "here")
    backwards = json.dumps(dict(reversed(json.loads(text).items())), indent=1).encode() + b"\n"
    for other in (text + b" ", text + text, backwards, b"[]", b"{}", b"[" * 100_000, b'{"format": 1, "format": 2}'):
        with pytest.raises(manifest.BadManifest):
            manifest.decode(other, "here")


def test_other_formats_and_versions_are_named() -> None:
    with pytest.raises(manifest.BadManifest, match="this is no bundle"):
        manifest.decode(b'{"format": "gpufleet-inventory", "version": 1}', "here")
    with pytest.raises(manifest.BadManifest, match="its version is 2"):
        manifest.decode(b'{"format": "gpufleet-bundle", "version": 2}', "here")


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("../../etc/passwd", "'..'"),
        ("/etc/passwd", "absolute"),
        ("a/../b", "'..'"),
        ("a//b", "empty part"),
        ("", "it is empty"),
        ("a\0b", "control character"),
        ("a\nb", "control character"),
        ("a\\b", "backslash"),
        ("a" * 256, "too long"),
        ("a/" * 2050 + "b", "too long"),
        ("a\ud800", "no valid Unicode"),
    ],
)
def test_hostile_paths_are_refused_wherever_they_stand(path: str, fault: str) -> None:
    good = sample()
    snapshot = good.snapshots[0]
    inside = dataclasses.replace(snapshot.files[0], path=path)
    for bad in (
        dataclasses.replace(good, files=(dataclasses.replace(good.files[0], path=path),)),
        dataclasses.replace(good, snapshots=(dataclasses.replace(snapshot, refs=(path,)),)),
        dataclasses.replace(good, snapshots=(dataclasses.replace(snapshot, files=(inside, *snapshot.files[1:])),)),
    ):
        assert fault in faults(bad)


@pytest.mark.parametrize(
    "paths", [["a", "A"], ["é", "e\u0301"], ["sub/a", "Sub/b"], ["a", "a/b"], ["STRASSE", "straße"], ["a", "a"]]
)
def test_paths_that_would_fall_together_are_refused(paths: list[str]) -> None:
    assert len(names.set_faults(paths)) == 1


def change(document: dict[str, t.Any], **changes: t.Any) -> dict[str, t.Any]:
    return {**document, **changes}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"name": "../x"}, "name is"),
        ({"media": 0}, "media is 0"),
        ({"media": True}, "media is True"),
        ({"blobs": []}, "blobs is no dict"),
        ({"blobs": {"xy": {"size": 1, "medium": 1}}}, "a key of blobs"),
        ({"blobs": {"a" * 64: {"size": -1, "medium": 1}}}, "is -1"),
        ({"images": [{}]}, "an image has the keys"),
        ({"images": 3}, "images is no list"),
        ({"more": 1}, "has the keys"),
        ({"snapshots": [{"repo_id": "a/b/c", "commit": "x", "refs": [], "files": []}]}, "no repo id"),
    ],
)
def test_wrong_forms_are_named(changes: dict[str, t.Any], fault: str) -> None:
    document = change(json.loads(manifest.encode(sample())), **changes)
    document.pop("digest")
    document["digest"] = hashlib.sha256(manifest._text(document)).hexdigest()
    with pytest.raises(manifest.BadManifest) as caught:
        manifest.decode(manifest._text(document), "here")
    assert fault in str(caught.value)


def test_what_does_not_fit_together_is_named() -> None:
    good = sample()
    snapshot, image = good.snapshots[0], good.images[0]
    assert "belongs to nothing" in faults(dataclasses.replace(good, files=()))
    assert "not in the bundle" in faults(
        dataclasses.replace(good, files=(manifest.File("wheel", "c", sha("no"), False),))
    )
    assert "add up" in faults(
        dataclasses.replace(good, cut={sha("large"): manifest.Cut(21, good.cut[sha("large")].pieces)})
    )
    assert "there twice" in faults(dataclasses.replace(good, snapshots=(snapshot, snapshot)))
    assert "no name of an image" in faults(
        dataclasses.replace(good, images=(dataclasses.replace(image, names=("../x",)),))
    )
    assert "is on medium" in faults(
        dataclasses.replace(
            good,
            media=1,
            blobs={key: dataclasses.replace(blob, medium=blob.medium and 2) for key, blob in good.blobs.items()},
        )
    )
    other = dataclasses.replace(snapshot, repo_id="Acme/Tiny", commit="c" * 40)
    assert "collides with" in faults(dataclasses.replace(good, snapshots=(snapshot, other)))
    lying = dataclasses.replace(snapshot.files[2], etag="d" * 64)
    assert "another SHA-256 than its etag" in faults(
        dataclasses.replace(good, snapshots=(dataclasses.replace(snapshot, files=(*snapshot.files[:2], lying)),))
    )
