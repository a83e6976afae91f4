# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/models.md: the fields of a model."""

from __future__ import annotations

from pages.markdown import table
from pydantic import BaseModel

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec

HEAD = """# Fields of a model

Each element of `vllm_models` has these fields; unknown ones are errors. Options under `engine` are vLLM's own, by their
full names in snake_case, and are checked against the release in the image: see [options.md](options.md). This page is
made by `tools/reference.py` from `plugins/plugin_utils/_spec/model.py`.

"""
EDITORS = """
## In an editor

[vllm_models.schema.json](vllm_models.schema.json) is the JSON Schema of the same fields and of every option that any
catalogued release has. With it, editors that use yaml-language-server complete and check a file that declares
`vllm_models`; the first line of the file names it, by a path that is relative to the file, or by an address:

```yaml
# yaml-language-server: $schema=../../../docs/vllm_models.schema.json
vllm_models:
  - name: qwen3-8b
    model: Qwen/Qwen3-8B
    image: vllm/vllm-openai:v0.33.0
    engine:
      max_model_len: 16384
```

An editor also has to know Ansible's tag for encrypted values; in Visual Studio Code this is the setting
`"yaml.customTags": ["!vault scalar"]`.

The schema knows no image, so it takes what any release takes and marks what the newest one dropped. Which options the
release in the image has, and which fit together, is decided by the plan.
"""


def rows(model: type[BaseModel], prefix: str = "") -> list[tuple[str, str, str]]:
    """A row for each field, those of nested parts under their parent's name."""
    found: list[tuple[str, str, str]] = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += rows(field.annotation, f"{prefix}{name}.")
            continue
        if field.is_required():
            default = "required"
        else:
            shown = field.get_default(call_default_factory=True)
            default = "" if shown is None else f"`{shown}`"
        found.append((f"`{prefix}{name}`", default, field.description or ""))
    return found


def page() -> str:
    """The whole page."""
    return HEAD + table(("field", "default", "what"), rows(ModelSpec)) + EDITORS
