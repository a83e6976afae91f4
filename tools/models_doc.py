# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/models.md, the reference of a model's fields, from the one model of a specification.

    PYTHONPATH=.build/collections python tools/models_doc.py

tests/unit/plugins/plugin_utils/_spec/test_spec_doc.py fails when the page is not current.
"""

from __future__ import annotations

import pathlib

from pydantic import BaseModel

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec

PAGE = pathlib.Path(__file__).resolve().parent.parent / "docs" / "models.md"
HEAD = """# Fields of a model

Each element of `vllm_models` has these fields; unknown ones are errors. Options under `engine` are vLLM's own, by their
full names in snake_case, and are checked against the release in the image. `tools/models_doc.py` makes this page from
`plugins/plugin_utils/_spec/model.py`.

| field | default | what |
|---|---|---|
"""


def rows(model: type[BaseModel], prefix: str = "") -> list[str]:
    """A table row for each field, those of nested parts under their parent's name."""
    lines = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            lines += rows(field.annotation, f"{prefix}{name}.")
            continue
        if field.is_required():
            default = "required"
        else:
            shown = field.get_default(call_default_factory=True)
            default = "" if shown is None else f"`{shown}`"
        lines.append(f"| `{prefix}{name}` | {default} | {field.description} |")
    return lines


def page() -> str:
    """The whole page."""
    return HEAD + "\n".join(rows(ModelSpec)) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
