# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The published schema of bundles is that of the bundles that are made."""

from __future__ import annotations

import json
import pathlib

import jsonschema
import pytest

from support.bundle import COMMIT, Sides, add_snapshot

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("bounds", [{}, {"file_bytes": 4096}, {"media_bytes": 1 << 16}])
def test_what_is_made_is_of_the_schema(tmp_path: pathlib.Path, bounds: dict[str, int]) -> None:
    schema = json.loads((ROOT / "docs/bundle.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    sides = Sides(tmp_path)
    add_snapshot(sides.near, {"config.json": b"{}", "sub/model.safetensors": bytes(100_000)}, refs=("main", "x/y"))
    (sides.files / "a.whl").write_bytes(b"wheel")
    sides.create(files=[{"src": str(sides.files), "kind": "wheel", "prefix": "x"}], **bounds)
    place = next(sides.bundle.rglob("manifest.json"))
    document = json.loads(place.read_text())
    jsonschema.validate(document, schema)
    assert document["snapshots"][0]["commit"] == COMMIT
    document["snapshots"][0]["files"][0]["path"] = "../x"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)
