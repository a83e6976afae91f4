# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write every page, schema and block that is made from the model of a specification and from the catalogue.

    PYTHONPATH=.build/collections python tools/reference.py

tests/unit/plugins/plugin_utils/_spec/test_spec_doc.py fails when one of them is not current.
"""

from __future__ import annotations

import pathlib

from pages import arguments, compatibility, models, options, schema

ROOT = pathlib.Path(__file__).resolve().parent.parent


def wanted() -> dict[pathlib.Path, str]:
    """What each generated file should hold."""
    texts = {
        ROOT / "docs/models.md": models.page(),
        ROOT / "docs/options.md": options.page(),
        ROOT / "docs/compatibility.md": compatibility.page(),
        ROOT / "docs/vllm_models.schema.json": schema.text(),
    }
    for role in ("host", "server"):
        specs = ROOT / "roles" / role / "meta/argument_specs.yml"
        texts[specs] = arguments.replaced(specs.read_text(encoding="utf-8"))
    return texts


def main() -> None:
    """Write what is not current."""
    for path, text in wanted().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"{path.relative_to(ROOT)}: {len(text.encode()) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
