# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Engine options of a spec against the release in the image: what is wrong with them, and the arguments they become.

Pure.
"""

from __future__ import annotations

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import read_asked
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Option, Release
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.values import check_value, render_option
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.plain import short
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem, did_you_mean

# Options that the collection decides about itself, and where the user says the same thing.
OWN_OPTIONS = {
    "model": "Write it as model",
    "model_tag": "Write it as model",
    "revision": "Write it as revision",
    "served_model_name": "Leave it out; the model is served under its name",
    "host": "Write it as listen.address",
    "port": "Write it as listen.port",
    "uds": "Leave it out; servers listen on TCP, see listen",
    "api_key": "Write it as secrets.api_key, for an argument is shown by docker inspect",
    "hf_token": "Write it as secrets.hub_token, for an argument is shown by docker inspect",
    "download_dir": "Leave it out; host_hub_cache of the host is mounted and used",
    "config": "Write its options under engine, so that they are checked",
    "headless": "Leave it out; every server answers requests itself",
    "nnodes": "Leave it out; a server runs on one host",
    "data_parallel_size_local": "Leave it out; a server runs on one host",
}
_REASON_LENGTH = 300


def check_options(spec: ModelSpec, release: Release) -> list[Problem]:
    """Every problem of the engine options, warnings among them.

    Values are shown only where the option takes no secret.
    """
    _asked, faults = read_asked(spec.engine, spec.env)
    problems = []
    for name, value in spec.engine.items():
        option = release.option(name)
        key = option.name if option else name.lstrip("-").replace("-", "_")
        field = f"engine.{short(name)}"
        if key in OWN_OPTIONS:
            problems.append(Problem(spec.name, field, "is not set here", OWN_OPTIONS[key]))
        elif option is None:
            problems.append(_unknown(spec.name, name, release))
        elif option.name != name:
            # One spelling only: what decides about GPUs and memory is looked up by it.
            problems.append(
                Problem(spec.name, field, f"is another spelling of {option.name}", f"Write engine.{option.name}")
            )
        elif value is None:
            problems.append(Problem(spec.name, field, "has no value", "Write one, or leave the option out"))
        elif reason := _check_value(option, value) or faults.get(name):
            problems.append(Problem(spec.name, field, reason, f"Correct it; {_takes(option)}", _shown(value)))
        elif option.deprecated:
            problems.append(
                Problem(
                    spec.name,
                    field,
                    f"is deprecated in {release.version}: {option.deprecated}",
                    "Replace it",
                    warning=True,
                )
            )
    return problems


def check_environment(spec: ModelSpec, release: Release) -> list[Problem]:
    """Variables of vLLM that the release does not know: it ignores them, and from 0.17.0 on warns of them."""
    return [
        Problem(
            spec.name,
            f"env.{name}",
            f"is no variable of vLLM {release.version}",
            did_you_mean(name, release.environment, "Remove it, or use an image that knows it"),
            warning=True,
        )
        for name in spec.env
        if name.startswith("VLLM_") and name not in release.environment
    ]


def option_arguments(spec: ModelSpec, release: Release) -> list[str]:
    """The arguments of all engine options, sorted by name so that equal specs give equal arguments.

    The options must have no problem.
    """
    return [
        argument for name in sorted(spec.engine) for argument in render_option(release.options[name], spec.engine[name])
    ]


def _check_value(option: Option, value: object) -> str | None:
    reason = check_value(option, value)
    return short(reason, _REASON_LENGTH) if reason else None


def _unknown(model: str, name: str, release: Release) -> Problem:
    field = f"engine.{short(name)}"
    life = catalogue.life("options", name.lstrip("-").replace("-", "_"))
    if life is not None:
        return Problem(
            model, field, f"is not in vLLM {release.version}: {life}", "Remove it, or use an image that has it"
        )
    near = release.suggest(name)
    fix = (
        "Did you mean " + " or ".join(near) + "?" if near else "See the options of this release: vllm serve --help=all"
    )
    return Problem(model, field, f"is no option of vLLM {release.version}", fix)


def _takes(option: Option) -> str:
    default = "" if option.default is None else f", and its default is {short(str(option.default))}"
    return f"{option.flag} takes {'true or false' if option.on else option.type or 'text'}{default}"


def _shown(value: object) -> object:
    return short(value) if isinstance(value, str) else value if isinstance(value, (int, float)) else None
