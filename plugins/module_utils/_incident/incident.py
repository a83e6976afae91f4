# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""The two steps of a diagnosis on the host: read what the controller judges, then write it down with the judgement."""

from __future__ import annotations

import json
import os
import re
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.facts import gpu_facts
from ansible_collections.gpufleet.vllm.plugins.module_utils._incident import archive, collect, reading
from ansible_collections.gpufleet.vllm.plugins.module_utils._redact import Redactor

Params = t.Mapping[str, t.Any]


def read(sources: t.Sequence[collect.Source], params: Params, run: t.Any, now: float) -> dict[str, t.Any]:
    """Excerpts of the logs and facts, without secrets, a server each, and the archive that is to be written."""
    redactor = Redactor(collect.secret_values(sources, params["state_dir"]))
    xids = _xids(gpu_facts(run))
    subjects: dict[str, dict[str, t.Any]] = {}
    for source in sources:
        name = params["fleet"] if params["joined"] else source.subject
        subject = subjects.setdefault(name, {"server": name, "logs": {}, "containers": {}, "xids": xids})
        subject["logs"][source.name] = reading.excerpt(reading.lines_of(source.pieces()), redactor)
        subject["containers"][source.name] = redactor.data(collect.facts_of(source))
    result: dict[str, t.Any] = {"subjects": list(subjects.values())}
    if params["write"]:
        folder = params["dest"] or os.path.join(params["state_dir"], "incidents")
        name = sources[0].subject if len(subjects) == 1 and not params["joined"] else params["fleet"]
        result["archive"] = archive.path_in(folder, _file_name(os.path.basename(name)), now)
    return result


def write(sources: t.Sequence[collect.Source], params: Params, run: t.Any) -> dict[str, t.Any]:
    """Write the archive that the controller has named in found, with its diagnosis."""
    redactor = Redactor(collect.secret_values(sources, params["state_dir"]))
    found = params["found"]
    with archive.Archive(found["archive"]) as folder:
        folder.text("diagnosis.txt", redactor.text(found["text"]) + "\n")
        folder.text("diagnosis.json", _json(redactor.data(found["diagnosis"])))
        folder.text("gpu.json", _json(redactor.data(gpu_facts(run))))
        if params["plan"] is not None:
            folder.text("plan.json", _json(redactor.data(params["plan"])))
        for number, source in enumerate(sources):
            name = f"{number}-{_file_name(source.name)}"
            folder.log(f"logs/{name}.log", reading.redacted(reading.lines_of(source.pieces()), redactor))
            if source.inspect is not None:
                folder.text(f"inspect/{name}.json", collect.inspection(source, redactor))
            metrics = collect.metrics(source, redactor)
            if metrics is not None:
                folder.text(f"metrics/{name}.txt", metrics)
        return {"archive": folder.path, "files": folder.names}


def _xids(facts: t.Mapping[str, t.Any]) -> list[int]:
    """The codes of all Xid errors that the kernel log holds."""
    entries = [entry for gpu in facts["gpus"] for entry in (gpu.get("health") or {}).get("xids") or ()]
    entries += (facts.get("kernel_log") or {}).get("other_xids") or ()
    return sorted({int(entry["code"]) for entry in entries})


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("_.") or "log"


def _json(data: t.Any) -> str:
    return json.dumps(data, indent=1, sort_keys=True) + "\n"
