# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Engine options of a spec against the release in the image: name, value, and what becomes of them later. Pure.

Values are shown only where numbers or choices are wanted, and in what is proposed for options of the table in
migrations.py, none of which takes a secret.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import re
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import read_asked
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Option, Release, load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.values import check_value
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.plain import short
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem, did_you_mean
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.migration import Remedy, Replacement
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.migrations import migrate, migrate_value

# Options that the collection decides about itself, and where the user says the same thing.
OWN_OPTIONS = {
    "model": "Write it as model",
    "model_tag": "Write it as model",
    "revision": "Write it as revision",
    "served_model_name": "Leave it out; the model is served under its name",
    "host": "Write it as listen.address",
    "port": "Write it as listen.port",
    "uds": "Leave it out; servers listen on TCP, see listen",
    "grpc": "Leave it out; every server answers HTTP",
    "api_key": "Write it as secrets.api_key, for an argument is shown by docker inspect",
    "ssl_keyfile": "Write it as secrets.tls_key",
    "ssl_certfile": "Write it as secrets.tls_cert",
    "hf_token": "Write it as secrets.hub_token, for an argument is shown by docker inspect",
    "download_dir": "Leave it out; host_hub_cache of the host is mounted and used",
    "config": "Write its options under engine, so that they are checked",
    "headless": "Leave it out; every server answers requests itself",
    "nnodes": "Leave it out; a server runs on one host",
    "data_parallel_size_local": "Leave it out; a server runs on one host",
}
# Names that guides use and that no release has; the last word on each is said before anything near is looked for.
UNREAL = {
    "request_timeout": "vLLM has no time limit for requests: set one at the gateway; max_num_queued_reqs (0.29.0 and "
    "later) limits the queue",
    "kv_cache_memory": "The option is kv_cache_memory_bytes, which 0.10.2 brought; before, gpu_memory_utilization "
    "decides",
}
STILL_TAKEN = "It is taken here"
_LENGTH = 300
# Texts that YAML reads as texts without quotes.
_BARE = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
_YAML_WORDS = {"true", "false", "yes", "no", "on", "off", "y", "n", "null"}


def check_options(spec: ModelSpec, release: Release) -> list[Problem]:
    """Every problem of the engine options, warnings among them; one at most for each option."""
    _asked, faults = read_asked(spec.engine, spec.env)
    problems = []
    for name, value in spec.engine.items():
        at = _At(spec, release, name, value)
        option = release.option(name)
        key = option.name if option else at.key
        if key in OWN_OPTIONS:
            problem = at.error("is not set here", OWN_OPTIONS[key])
        elif option is None:
            problem = _absent(at)
        elif option.name != name:
            # One spelling only: what decides about GPUs and memory is looked up by it.
            problem = at.error(
                f"is another spelling of {option.name}", f"Write engine.{option.name}", at.moved(option.name, value)
            )
        elif value is None:
            problem = at.error("has no value", "Write one, or leave the option out", {})
        else:
            problem = _present(at, option, faults.get(name))
        if problem is not None:
            problems.append(problem)
    return problems


@dataclasses.dataclass(frozen=True)
class _At:
    """An option where it stands in a spec."""

    spec: ModelSpec
    release: Release
    name: str
    value: t.Any

    @property
    def key(self) -> str:
        return _snake(self.name)

    def error(self, reason: str, fix: str, remedy: Remedy | None = None, value: t.Any = None) -> Problem:
        # An argument as a whole may have been written as the name, with a secret behind the sign.
        shown = short(self.name.partition("=")[0])
        return Problem(self.spec.name, f"engine.{shown}", reason, fix, value, remedy=remedy)

    def warning(self, reason: str, fix: str, remedy: Remedy | None) -> Problem:
        return dataclasses.replace(self.error(reason, fix, remedy), warning=True)

    def moved(self, target: str, value: t.Any) -> Remedy | None:
        """The value under another name of this release; None where the spec says something else there already."""
        if value is None:
            return {}
        if check_value(self.release.options[target], value) is not None:
            return None
        if target in self.spec.engine:
            return {} if self.spec.engine[target] == value else None
        return {"engine": {target: value}}


# ---- Options that the release has


def _present(at: _At, option: Option, fault: str | None) -> Problem | None:
    reason = check_value(option, at.value) or fault
    changed = migrate_value(option.name, at.value, at.spec.engine, at.release)
    if changed is not None:
        reason = f"does not take {at.value!r}: {changed.reason}"
        return at.error(short(reason, _LENGTH), _instead(changed), changed.remedy)
    if reason is not None:
        fix = f"Correct it; {_takes(option)}{_elsewhere(option, at)}"
        # Text that should have been a mapping is whatever someone wrote, a secret in it included.
        value = None if option.kind == "json" else _shown(at.value)
        return at.error(short(reason, _LENGTH), fix, value=value)
    if option.name == "kv_cache_dtype" and (unlisted := _unlisted(at, option)):
        return unlisted
    life = catalogue.life("options", option.name)
    until = None if life is None else life.until
    if not option.deprecated and until is None:
        return None
    here = migrate(option.name, at.value, at.spec.engine, at.release)
    if option.deprecated:
        return at.warning(_deprecation(at, option, until), *_replaced(here))
    if here and here.remedy:
        return at.warning(f"is in no release after {until}: {here.reason}", *_replaced(here))
    newest = load(catalogue.releases()[-1])
    later = migrate(option.name, at.value, at.spec.engine, newest)
    fix = f"{STILL_TAKEN}; for vLLM {newest.version}: {_instead(later)}" if later else STILL_TAKEN
    reason = f"is in no release after {until}" + (f": {later.reason}" if later else "")
    return at.warning(reason, fix, None)


def _unlisted(at: _At, option: Option) -> Problem | None:
    """A data type that only a plugin can bring, where the parser takes any (_validate_cache_dtype in config/cache.py).

    Since 0.33.0 the parser has no choices, and the engine refuses what is not registered.
    """
    known = at.release.facts("kv_cache_dtypes")
    if option.choices is not None or not known or str(at.value) in known:
        return None
    reason = f"is no data type of the KV cache in vLLM {at.release.version}"
    return at.error(reason, did_you_mean(str(at.value), known), value=_shown(at.value))


def _deprecation(at: _At, option: Option, until: str | None) -> str:
    """What the release itself says, and when the option goes, or shall go where the text does not say so."""
    text = short(option.deprecated or "", _LENGTH).rstrip(".")
    end = ""
    if until is not None:
        end = f" (it is in no release after {until})"
    elif option.removal and option.removal not in text:
        end = f" (its removal is announced for {option.removal})"
    return f"is deprecated in {at.release.version}: {text}{end}"


def _replaced(answer: Replacement | None) -> tuple[str, Remedy | None]:
    """The fix of something deprecated, and its remedy."""
    return ("Replace it", None) if answer is None else (_instead(answer), answer.remedy)


def _takes(option: Option) -> str:
    default = "" if option.default is None else f", and its default is {short(str(option.default))}"
    return f"{option.flag} takes {'true or false' if option.on else option.type or 'text'}{default}"


def _elsewhere(option: Option, at: _At) -> str:
    """Where another release has the choice."""
    if option.choices is None or isinstance(at.value, bool) or not isinstance(at.value, str | int):
        return ""
    order = catalogue.releases()
    having = [
        version
        for version in order
        if str(at.value) in map(str, catalogue.facts("options", version).get(option.name, {}).get("choices", ()))
    ]
    if not having:
        return ""
    here = order.index(at.release.version)
    later = next((version for version in having if order.index(version) > here), None)
    return f"; {having[-1]} was the last release with that choice" if later is None else f"; {later} has that choice"


def _shown(value: object) -> object:
    return short(value) if isinstance(value, str) else value if isinstance(value, (int, float)) else None


# ---- Options that the release has not


def _absent(at: _At) -> Problem:
    for explain in (_opposite, _dotted, _of_another_release, _prefix, _unlike_opposite):
        problem = explain(at)
        if problem is not None:
            return problem
    if at.key in UNREAL:
        return at.error("is in no release of vLLM", UNREAL[at.key])
    near = at.release.suggest(at.name)
    fix = (
        "Did you mean " + " or ".join(near) + "?" if near else "See the options of this release: vllm serve --help=all"
    )
    return at.error(f"is no option of vLLM {at.release.version}", fix)


def _opposite(at: _At) -> Problem | None:
    """An argument of the release itself that says no."""
    name = _opposites(at.release.version).get(at.key)
    return None if name is None else _said_by(at, at.release.options[name])


@functools.cache
def _opposites(version: str) -> dict[str, str]:
    """The options of a catalogued release by the names of their arguments for no.

    0.33 turned to --disable-x for --enable-x and back, and still takes --no-x.
    """
    found = {}
    for option in load(version).options.values():
        if option.off is not None:
            found[f"no_{option.name}"] = option.name
            found[_snake(option.off)] = option.name
    return found


def _unlike_opposite(at: _At) -> Problem | None:
    """A name that no release has, and whose opposite this one has."""
    prefix, _underscore, rest = at.key.partition("_")
    opposites = {"no": rest, "enable": f"disable_{rest}", "disable": f"enable_{rest}"}
    option = at.release.options.get(opposites.get(prefix, ""))
    return _said_by(at, option) if option is not None and option.on is not None else None


def _said_by(at: _At, option: Option) -> Problem:
    reason = f"is the opposite of {option.name}"
    if not isinstance(at.value, bool):
        return at.error(reason, f"Write engine.{option.name}: true or false")
    remedy = at.moved(option.name, not at.value)
    return at.error(reason, f"Write engine.{option.name}: {_yaml(not at.value)}", remedy)


def _dotted(at: _At) -> Problem | None:
    """option.field, which vLLM's parser takes from 0.9.0 on, and which a mapping says."""
    head, dot, path = at.name.partition(".")
    option = at.release.option(head)
    name = option.name if option is not None else _snake(head)
    if not dot or name in OWN_OPTIONS or not all(re.fullmatch(r"\w+", part) for part in path.split(".")):
        return None
    value = at.value
    for part in reversed(path.split(".")):
        value = {part: value}
    if option is None:
        return _of_another_release(dataclasses.replace(at, value=value), name)
    if option.kind != "json":
        return None
    template = ": {".join(path.split(".")) + ": ..." + "}" * path.count(".")
    present = at.spec.engine.get(name, {})
    remedy = None
    if isinstance(present, dict) and path.partition(".")[0] not in present:
        whole = {**present, **value}
        remedy = {"engine": {name: whole}} if check_value(option, whole) is None else None
    return at.error(f"is a field of {name}, which is a mapping", f"Write engine.{name}: {{{template}}}", remedy)


def _of_another_release(at: _At, name: str | None = None) -> Problem | None:
    """An option of another release: removed, or not there yet."""
    name = name or at.key
    life = catalogue.life("options", name)
    if life is None:
        return None
    here = at.release.version
    order = catalogue.releases()
    answer = migrate(name, at.value, at.spec.engine, at.release)
    later = next((since for since, _until in life.spans if order.index(since) > order.index(here)), None)
    if later is not None:
        if answer is not None and answer.remedy is not None:
            fix = _instead(answer)
        else:
            fix = f"{answer.advice if answer else 'Leave it out'}, or use an image of vLLM {later} or newer"
        return at.error(f"is not in vLLM {here}: it came with {later}", fix, answer.remedy if answer else None)
    gone = order[order.index(t.cast(str, life.until)) + 1]
    reason = f"is not in vLLM {here}: it was removed in {gone}"
    if answer is None:
        return at.error(reason, f"Leave it out, or use an image of vLLM {life.until} or older")
    return at.error(f"{reason}: {answer.reason}", _instead(answer), answer.remedy)


def _prefix(at: _At) -> Problem | None:
    """The beginning of a name, which vLLM's parser completes, differently from release to release."""
    key = at.key
    found = [name for name in at.release.options if key and name.startswith(key) and name not in OWN_OPTIONS]
    if not found:
        return None
    if len(found) > 1:
        near = difflib.get_close_matches(key, found, n=3, cutoff=0) or found
        return at.error(f"is only a prefix of {len(found)} options", "Did you mean " + " or ".join(near[:3]) + "?")
    remedy = at.moved(found[0], at.value)
    return at.error(f"is only a prefix of {found[0]}", f"Write engine.{found[0]}", remedy)


# ---- Words


def _snake(name: str) -> str:
    return name.lstrip("-").replace("-", "_")


def _instead(answer: Replacement) -> str:
    """What to do, with the lines to write."""
    if answer.remedy is None:
        return answer.advice
    lines = [
        f"{section}.{name}: {short(_yaml(value), _LENGTH)}"
        for section, values in answer.remedy.items()
        for name, value in values.items()
    ]
    todo = "Write " + " and ".join(lines) + " instead" if lines else "Leave it out"
    return f"{todo}. {answer.advice}" if answer.advice else todo


def _yaml(value: t.Any) -> str:
    if isinstance(value, str) and _BARE.fullmatch(value) and value.lower() not in _YAML_WORDS:
        return value
    return json.dumps(value)
