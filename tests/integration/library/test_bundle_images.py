# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images in bundles, saved from and loaded into the real Docker Engine."""

from __future__ import annotations

import io
import json
import os
import pathlib
import random
import tarfile
import typing as t

import docker
import docker.errors
import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle import archive, engine, inventory, manifest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from support import bundle


class Engine:
    """The Engine, with images of the test's own that are built from nothing and removed at the end."""

    def __init__(self) -> None:
        self.api = docker.from_env()
        self.prefix = f"gpufleet-bundle-{random.randrange(16**8):08x}"
        self.chance = random.Random(self.prefix)

    def build(self, name: str, base: str = "scratch", files: int = 1, size: int = 3_000_000) -> str:
        """An image of so many layers of random bytes; its full name."""
        lines = [f"FROM {base}", *(f"COPY file{number} /{name}-{number}" for number in range(files))]
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as tar:
            texts = {"Dockerfile": "\n".join(lines).encode()}
            texts.update({f"file{number}": self.chance.randbytes(size) for number in range(files)})
            for path, content in texts.items():
                info = tarfile.TarInfo(path)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        context.seek(0)
        full = f"{self.prefix}/{name}:1"
        self.api.images.build(fileobj=context, custom_context=True, tag=full, rm=True)
        return full

    def forget(self, *names: str) -> None:
        """Remove images as if this were a host that never had them."""
        for name in names:
            self.api.images.remove(name, force=True)

    def clean(self) -> None:
        # Images of other tests may vanish meanwhile, so they are not looked at.
        for image in self.api.api.images():
            for tag in image["RepoTags"] or ():
                if tag.startswith(self.prefix):
                    self.api.images.remove(tag, force=True)
        self.api.close()


@pytest.fixture
def real() -> t.Iterator[Engine]:
    made = Engine()
    try:
        yield made
    finally:
        made.clean()


@pytest.fixture
def sides(tmp_path: pathlib.Path) -> bundle.Sides:
    return bundle.Sides(tmp_path)


def size_of(sides: bundle.Sides) -> int:
    return sum(path.stat().st_size for path in sides.bundle.rglob("*") if path.is_file())


def make(sides: bundle.Sides, *images: str, **changes: t.Any) -> dict[str, t.Any]:
    return sides.create(store=engine.ImageStore(), images=list(images), snapshots=[], **changes)


def load(sides: bundle.Sides, **changes: t.Any) -> dict[str, t.Any]:
    return sides.load(connect=engine.ImageStore, **changes)


@pytest.mark.parametrize("bounds", [{}, {"file_bytes": 1 << 20}, {"media_bytes": 4 << 20}])
def test_images_come_back_by_id_and_name_and_shared_layers_are_stored_once(
    real: Engine, sides: bundle.Sides, bounds: dict[str, int]
) -> None:
    base = real.build("base", files=2)
    top = real.build("top", base)
    ids = {name: real.api.images.get(name).id for name in (base, top)}
    foreseen = make(sides, base, top, check=True, **bounds)
    assert foreseen["changed"] and not sides.bundle.exists()
    made = make(sides, base, top, **bounds)
    assert made["changed"] and 9_000_000 < made["bytes"] < 9_100_000
    assert make(sides, base, top, **bounds)["changed"] is False

    real.forget(top, base)
    planned = load(sides, check=True)
    assert planned["changed"] and not real.api.images.list(name=f"{real.prefix}/top")
    done = load(sides)
    assert done["changed"] and done["image_ids"] == ids
    assert {name: real.api.images.get(name).id for name in ids} == ids
    again = load(sides)
    assert (again["changed"], again["written_bytes"]) == (False, 0)


def test_a_lost_name_is_given_again_without_sending_anything(real: Engine, sides: bundle.Sides) -> None:
    name, other = real.build("one"), real.build("other")
    make(sides, name)
    image = real.api.images.get(name)
    image.tag(f"{real.prefix}/kept", "1")
    real.api.images.remove(name)
    real.api.images.get(other).tag(f"{real.prefix}/one", "1")
    result = load(sides)
    assert result["written_bytes"] == 0 and real.api.images.get(name).id == image.id
    assert "is sha256:" in result["changes"][0]["before"]


def test_a_delta_moves_only_new_layers_and_needs_the_old_ones(real: Engine, sides: bundle.Sides) -> None:
    base = real.build("base", files=2)
    top = real.build("top", base)
    wanted = real.api.images.get(top).id
    far = sides.folder / "far.json"
    chain = real.api.images.get(base).attrs["RootFS"]["Layers"]
    far.write_bytes(inventory.encode(inventory.Inventory({}, [chain])))
    made = make(sides, top, inventory=str(far))
    assert 3_000_000 < made["bytes"] < 3_050_000 and 6_000_000 < made["left_out_bytes"] < 6_050_000
    assert size_of(sides) < 3_100_000
    assert make(sides, top, inventory=str(far))["changed"] is False
    real.forget(top)
    assert load(sides)["written_bytes"] < 3_050_000
    assert real.api.images.get(top).id == wanted
    real.forget(top, base)
    with pytest.raises(FleetError, match="has more than this one, and nothing was changed"):
        load(sides)


def test_layers_that_the_engine_has_are_not_sent(real: Engine, sides: bundle.Sides) -> None:
    base = real.build("base", files=2)
    top = real.build("top", base)
    make(sides, top)
    real.forget(top)
    assert 3_000_000 < load(sides)["written_bytes"] < 3_050_000


def test_an_image_that_is_not_there_is_told(real: Engine, sides: bundle.Sides) -> None:
    with pytest.raises(FleetError) as caught:
        make(sides, f"{real.prefix}/no:1", "../x", "Bad Name")
    assert len(caught.value.details["faults"]) == 3 and "docker pull" in str(caught.value)
    assert not sides.bundle.exists()


def test_an_image_by_id_or_digest_gets_a_name_that_says_so(real: Engine, sides: bundle.Sides) -> None:
    name = real.build("one")
    image = real.api.images.get(name)
    made = make(sides, image.id)
    assert made["images"] == [{"id": image.id, "names": []}]
    real.forget(name)
    load(sides)
    assert real.api.images.get(image.id).id == image.id
    image.tag(f"{real.prefix}/one", "1")


def test_a_damaged_layer_does_not_reach_the_engine(real: Engine, sides: bundle.Sides) -> None:
    name = real.build("one")
    make(sides, name)
    real.forget(name)
    blob = max((path for path in sides.bundle.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    with pytest.raises(FleetError, match=f"{blob.name} is damaged.*image {name}"):
        load(sides)
    with pytest.raises(docker.errors.ImageNotFound):
        real.api.images.get(name)


def test_what_is_put_together_is_taken_apart_to_the_same(real: Engine, sides: bundle.Sides) -> None:
    """The stream for an Engine is an OCI layout, as Docker saves since 25; here it is read as such."""
    name = real.build("one", files=2)
    make(sides, name)
    paths = {path.name: path for path in sides.bundle.rglob("blobs/*/*/*")}
    (image,) = manifest.decode((sides.bundle / "manifest.json").read_bytes(), "").images
    parts = [
        archive.Content(one, paths[one].stat().st_size, lambda one=one: iter([paths[one].read_bytes()]))
        for one in manifest.image_contents(image)
    ]
    stream = b"".join(archive.put_together(image, [name], lambda one: paths[one].stat().st_size, parts))
    kept: list[str] = []

    def keep(_size: int, chunks: t.Iterator[bytes]) -> str:
        kept.append(bundle.hashlib.sha256(b"".join(chunks)).hexdigest())
        return kept[-1]

    again = archive.take_apart(io.BytesIO(stream), keep, [name], name)
    assert again.manifest is not None
    assert (again.config, again.layers) == (image.config, image.layers)
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        index = json.load(tar.extractfile("index.json"))
        assert index["manifests"][0]["digest"] == f"sha256:{again.manifest}"
        assert f"blobs/sha256/{again.manifest}" in tar.getnames()
    for length in range(0, len(stream) - 1024, len(stream) // 7):
        with pytest.raises(FleetError):
            archive.take_apart(io.BytesIO(stream[:length]), keep, [name], name)


def test_the_engine_is_named_when_it_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "DOCKER_HOST", "unix:///no/such.sock")
    with pytest.raises(FleetError, match="does not answer at unix:///no/such.sock"):
        engine.ImageStore()
