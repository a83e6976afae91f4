# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Quantization and number formats: what the checkpoint holds, what the spec asks for, and what GPUs can do with it.

The method is read from the checkpoint, as _verify_quantization of config/model.py (config.py in older releases) and
get_quant_config of model_executor/model_loader/weight_utils.py do, never from a name. Pure.
"""

from __future__ import annotations

import dataclasses
import typing as t

from packaging.version import Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Release
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.plain import short
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem, did_you_mean
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.hardware import (
    Accelerator,
    capability_problem,
    number,
    on_cpu,
    unfit,
)

_FIELD = "engine.quantization"
_ALLOW = "allow_deprecated_quantization"
# The packages that bring a method back which vLLM itself has no longer (0.24.0: gguf, 0.28.0: bitsandbytes).
_PLUGINS = {"gguf": "vllm-gguf-plugin", "bitsandbytes": "vllm-bnb-plugin"}
# Packages of image_info that bring no method.
_NO_METHODS = {"bitsandbytes", "ray", *_PLUGINS.values()}
# hf_quant_config.json is read without being asked for from here on (transformers_utils/config.py).
_READS_MODELOPT_FILE = Version("0.10.1")
# Older releases take bfloat16 for dtype auto on any GPU, and fail where there is none (_resolve_auto_dtype in config.py
# is new in 0.9.1).
_AUTO_DTYPE_FALLS_BACK = Version("0.9.1")
_BFLOAT16, _FP8 = 80, 89
# Methods that quantize full weights while they are loaded: their classes need no file of the checkpoint
# (get_config_filenames and the constructor). mxfp4 is one of them since 0.28.0 (config/quantization.py).
_ONLINE = {
    "fp8",
    "experts_int8",
    "bitsandbytes",
    "rtn",
    "fp_quant",
    "humming",
    "mxfp8",
    "online",
    "fp8_per_tensor",
    "fp8_per_block",
    "fp8_per_channel",
    "nvfp4_per_token",
    "int8_per_channel_weight_only",
}
_ONLINE_MXFP4 = Version("0.28.0")
# Methods that are also those of quantized checkpoints; for full weights the class of "online" does the work.
_ONLINE_ALSO_HELD = {"mxfp4", "mxfp8"}
# Methods of other accelerators, or of one model alone, of which nothing is known here.
_ELSEWHERE = {
    "deepseek_v4_fp8",
    "gpt_oss_mxfp4",
    "tpu_int8",
    "neuron_quant",
    "ipex",
    "inc",
    "ptpc_fp8",
    "petit_nvfp4",
    "cpu_awq",
    "cpu_gptq",
}
_FULL_DTYPES = {"F64", "F32", "F16", "BF16"}
_FP8_METHODS = {"fp8", "fp8_per_tensor", "fp8_per_block", "fp8_per_channel", "modelopt"}
_WORDS_FOR_BFLOAT16 = ("bfloat16", "torch.bfloat16")


@dataclasses.dataclass(frozen=True)
class _Held:
    """How the checkpoint says that it is quantized.

    method: in vLLM's spelling; details: the configuration that says so, empty where it is a file of its own; source:
    where it stands.
    """

    method: str
    details: t.Mapping[str, t.Any]
    source: str
    algorithm: str


@dataclasses.dataclass(frozen=True)
class _Rule:
    """Which values of engine.quantization vLLM takes for a method that the checkpoint holds, besides its own name.

    needs: what the checkpoint's configuration has to say for that.
    """

    held: str
    takes: tuple[str, ...]
    since: str = "0.6.0"
    until: str | None = None
    needs: t.Callable[[t.Mapping[str, t.Any]], bool] = lambda details: True


def _is(key: str, value: t.Any) -> t.Callable[[t.Mapping[str, t.Any]], bool]:
    return lambda details: details.get(key) == value


def _marlin_can(details: t.Mapping[str, t.Any]) -> bool:
    return details.get("bits") in (4, 8) and details.get("sym") is True


# override_quantization_method of each method in model_executor/layers/quantization; the first release that does, and
# the last one. Conversions to Marlin also depend on the GPU, which their own limit of capability tells.
_RULES = (
    _Rule("awq", ("awq_marlin", "marlin"), until="0.8.5.post1", needs=lambda details: details.get("bits") in (4, 8)),
    _Rule("awq", ("awq_marlin", "marlin"), since="0.9.0", until="0.23.0", needs=_is("bits", 4)),
    _Rule("awq", ("awq_marlin", "auto_awq", "marlin"), since="0.24.0"),
    _Rule("gptq", ("gptq_marlin", "marlin"), until="0.21.0", needs=_marlin_can),
    _Rule("gptq", ("gptq_marlin", "auto_gptq", "marlin"), since="0.22.0"),
    _Rule("gptq", ("marlin",), until="0.10.1.1", needs=_is("is_marlin_format", True)),
    _Rule("gptq", ("gptq_marlin_24",), until="0.15.1", needs=_is("checkpoint_format", "marlin_24")),
    _Rule("gptq", ("bitblas", "gptq_bitblas"), since="0.8.5", until="0.15.1", needs=_marlin_can),
    _Rule("awq", ("moe_wna16",), since="0.7.1", needs=_is("bits", 4)),
    _Rule(
        "gptq",
        ("moe_wna16",),
        since="0.7.1",
        needs=lambda details: details.get("bits") in (4, 8) and not details.get("desc_act"),
    ),
    _Rule("fp8", ("deepseek_v4_fp8",), since="0.20.0"),
)
# These load any checkpoint in their own way.
_TAKES_ANY_CHECKPOINT = (("humming", "0.20.0", None), ("gguf", "0.20.0", "0.23.0"))


def check_quantization(
    spec: ModelSpec,
    release: Release,
    profile: t.Mapping[str, t.Any] | None,
    gpus: t.Sequence[Accelerator],
    packages: t.Mapping[str, str] | None,
) -> list[Problem]:
    """Method of the checkpoint, method asked for, release, plugins of the image and GPUs against each other.

    profile: of model_info; gpus: those that may be used; packages: of image_info. What is unknown is not checked.
    """
    check = _Check(spec, release, profile, gpus, packages)
    return [*check.methods(), *check.dtype()]


class _Check:
    def __init__(
        self,
        spec: ModelSpec,
        release: Release,
        profile: t.Mapping[str, t.Any] | None,
        gpus: t.Sequence[Accelerator],
        packages: t.Mapping[str, str] | None,
    ) -> None:
        self.spec, self.release, self.profile, self.packages = spec, release, profile, packages
        self.version = Version(release.version)
        self.methods_known = release.facts("quantization")
        self.on_cpu = on_cpu(release)
        self.gpus = () if self.on_cpu else gpus
        self.held = None if profile is None else _held(profile)
        asked = spec.engine.get("quantization")
        self.asked = asked.lower() if isinstance(asked, str) and asked.strip() not in ("", "None") else None
        if self.asked is None and spec.model.endswith(".gguf"):
            # vLLM looks into the file; nothing else of this name can be served.
            self.asked = "gguf"

    def methods(self) -> list[Problem]:
        """The method asked for against the one held, and what becomes of the two."""
        if not self.methods_known or "hf_overrides" in self.spec.engine:
            return []
        asked_problem = self._unknown(self.asked, _FIELD) if self.asked else None
        if asked_problem is not None:
            # A parser that lists the methods says so itself.
            option = self.release.options.get("quantization")
            listed = option is not None and option.choices is not None and self.asked not in _PLUGINS
            return [] if listed else [asked_problem]
        if self.held is None:
            return self._unquantized() if self.profile is not None else self._used(self.asked)
        mismatch = self._mismatch(self.held)
        if any(not problem.warning for problem in mismatch):
            return mismatch
        # A gguf or humming server does not ask what the configuration says.
        if self._takes_any():
            return self._used(self.asked)
        forced = self._forced(self.held)
        unknown = None if forced else self._unknown(self.held.method, "model")
        used = [unknown] if unknown is not None else self._used(forced or self.asked or self.held.method)
        return [*mismatch, *used]

    # ---- which method

    def _within(self, since: str, until: str | None) -> bool:
        return Version(since) <= self.version and (until is None or self.version <= Version(until))

    def _unknown(self, method: str, field: str) -> Problem | None:
        """The problem of a method that this release has not, nor any plugin in the image; None if it may be there."""
        if method in self.methods_known:
            return None
        plugin = _PLUGINS.get(method)
        if plugin and plugin in (self.packages or ()):
            return None
        if set(self.packages or ()) - _NO_METHODS:
            return None
        life = catalogue.life("quantization", method)
        value = short(self.asked or "") if field == _FIELD and "quantization" in self.spec.engine else self.spec.model
        held = (
            "" if field == _FIELD else f"the checkpoint is quantized with {short(method)} ({_source(self.held)}), and "
        )
        if life is None:
            fix = (
                did_you_mean(method, self.methods_known) if field == _FIELD else "Use another checkpoint of this model"
            )
            reason = f"{held}no release of vLLM has this method"
            return Problem(self.spec.name, field, reason, fix, value)
        reason = f"{held}vLLM {self.release.version} has no method {method}; {life}"
        fix = f"Use an image of vLLM {life.until or life.since}, or another checkpoint of this model"
        if plugin and life.until is not None and self.version > Version(life.until):
            if self.packages is None:
                return Problem(
                    self.spec.name,
                    field,
                    f"{reason}, and the image may lack its plugin {plugin}",
                    f"Use an image with {plugin}, or of vLLM {life.until}",
                    value,
                    warning=True,
                )
            reason += f", and the image has no {plugin}"
            fix = f"Use an image with {plugin}, or one of vLLM {life.until}"
        return Problem(self.spec.name, field, reason, fix, value)

    def _forced(self, held: _Held) -> str | None:
        """The method that vLLM goes on with whatever is asked for; None if there is none.

        override_quantization_method of modelopt.py, inc.py, mxfp4.py and deepseek_v4's quant_config.py.
        """
        kind = str(self.profile["config"].get("model_type")) if self.profile else ""
        if held.method == "modelopt" and self._within("0.10.0", None):
            return self._modelopt(held.algorithm)
        if held.method == "auto-round" and self._within("0.15.0", None):
            return "inc"
        if held.method == "mxfp4" and kind == "gpt_oss" and self._within("0.20.0", None):
            return "gpt_oss_mxfp4"
        if held.method == "fp8" and kind.startswith("deepseek_v4") and self._within("0.20.0", None):
            return "deepseek_v4_fp8"
        return None

    def _modelopt(self, algorithm: str) -> str | None:
        """The method of an algorithm of ModelOpt."""
        if "FP4" in algorithm:
            return "modelopt_fp4"
        if "MXFP8" in algorithm and self._within("0.16.0", None):
            return "modelopt_mxfp8"
        if algorithm == "MIXED_PRECISION" and self._within("0.17.0", None):
            return "modelopt_mixed"
        return "modelopt" if algorithm == "FP8" or ("FP8" in algorithm and self._within("0.10.0", "0.15.1")) else None

    def _mismatch(self, held: _Held) -> list[Problem]:
        """What is asked for against what is held."""
        if held.source == "hf_quant_config.json" and self.version < _READS_MODELOPT_FILE:
            return self._modelopt_file()
        if self.asked is None or self.asked == held.method:
            return []
        if self.on_cpu and held.method in ("awq", "gptq"):
            return []
        if self._takes_any():
            return self._humming_of_gpt_oss() if self.asked == "humming" else []
        forced = self._forced(held)
        if self.asked == forced:
            return []
        if forced is not None:
            reason = f"is not looked at: the checkpoint is quantized with {held.method}, and vLLM takes {forced}"
            return [self._problem(reason, "Leave it out", warning=True, remedy={})]
        if any(
            rule.held == held.method
            and self.asked in rule.takes
            and self._within(rule.since, rule.until)
            and rule.needs(held.details)
            for rule in _RULES
        ):
            return []
        reason = (
            f"the checkpoint is quantized with {held.method} ({held.source}), and vLLM takes no other method for it"
        )
        return [self._problem(reason, f"Leave it out, or write {held.method}", remedy={})]

    def _takes_any(self) -> bool:
        """Whether what is asked for does not look at what the checkpoint holds."""
        return any(self.asked == name and self._within(since, until) for name, since, until in _TAKES_ANY_CHECKPOINT)

    def _modelopt_file(self) -> list[Problem]:
        if self.asked is not None or not {"modelopt", "modelopt_fp4", "nvfp4"} & set(self.methods_known):
            return []
        four = [name for name in ("modelopt_fp4", "nvfp4") if name in self.methods_known]
        method = four[0] if "FP4" in (self.held.algorithm if self.held else "") and four else "modelopt"
        reason = f"is needed, for vLLM {self.release.version} does not look into hf_quant_config.json by itself"
        return [self._problem(reason, f"Write {method}", remedy={"engine": {"quantization": method}})]

    def _humming_of_gpt_oss(self) -> list[Problem]:
        """override_quantization_method of humming.py from 0.21.0 on."""
        config = self.profile["config"] if self.profile else {}
        if config.get("model_type") != "gpt_oss" or not self._within("0.21.0", None):
            return []
        remedy = {"engine": {"moe_backend": "humming"}}
        return [
            self._problem("vLLM refuses it for gpt-oss", "Write engine.moe_backend: humming instead", remedy=remedy)
        ]

    def _unquantized(self) -> list[Problem]:
        """A method for weights that no configuration calls quantized."""
        if self.asked is None:
            return []
        online = _ONLINE | ({"mxfp4"} if self.version >= _ONLINE_MXFP4 else set())
        weights = (self.profile or {}).get("weights") or {}
        dtypes = set(weights.get("bytes_by_dtype") or ())
        plugged = bool(set(self.packages or ()) - _NO_METHODS) or self.asked in _PLUGINS
        unsure = not dtypes or not dtypes <= _FULL_DTYPES or plugged
        if self.asked == "online" and not self.spec.engine.get("quantization_config"):
            reason = "says that engine.quantization_config tells what to do, and there is none"
            return [self._problem(reason, "Write engine.quantization_config, or a method such as fp8_per_tensor")]
        if self.asked in online or self.asked in _ELSEWHERE or unsure:
            return self._used(self.asked, "online" if self.asked in _ONLINE_ALSO_HELD else None)
        fits = ", ".join(sorted(online & set(self.methods_known)))
        reason = (
            f"needs a checkpoint that is quantized with it, and this one holds {', '.join(sorted(dtypes))} weights and "
            "no quantization_config"
        )
        fix = f"Leave it out, use a checkpoint that is quantized, or have it quantized while it is loaded with {fits}"
        return [self._problem(reason, fix, remedy={})]

    # ---- what the method needs

    def _used(self, method: str | None, works_as: str | None = None) -> list[Problem]:
        """Deprecation and GPUs of the method that vLLM goes on with; works_as: another one that does the work."""
        facts = self.methods_known.get(works_as or "") or self.methods_known.get(method or "")
        if method is None or facts is None:
            return []
        field, value = (_FIELD, method) if "quantization" in self.spec.engine else ("model", self.spec.model)
        problems = []
        if facts.get("deprecated") and self.spec.engine.get(_ALLOW) is not True:
            reason = (
                f"the method {method} is deprecated, and vLLM {self.release.version} refuses it unless it is allowed"
            )
            fix = f"Use a checkpoint with another method, or write engine.{_ALLOW}: true"
            problems.append(Problem(self.spec.name, f"engine.{_ALLOW}", reason, fix, remedy={"engine": {_ALLOW: True}}))
        least = facts.get("min_capability", 0)
        fix = f"Use other GPUs, or a checkpoint with another method than {method}"
        found = capability_problem(self.spec, self.gpus, least, field, f"the method {method}", fix, value)
        problems.extend(found)
        if method in _FP8_METHODS and not any(not problem.warning for problem in found):
            bad, _every = unfit(self.gpus, lambda value: value >= _FP8 or value < least)
            if bad:
                reason = (
                    f"{', '.join(bad)} cannot compute in fp8, which needs compute capability 8.9: only the weights are "
                    "kept in it, which saves memory and no time"
                )
                problems.append(Problem(self.spec.name, field, reason, "Use newer GPUs for speed", value, warning=True))
        return problems

    def _problem(
        self, reason: str, fix: str, warning: bool = False, remedy: t.Mapping[str, t.Any] | None = None
    ) -> Problem:
        value = self.spec.engine.get("quantization")
        shown = short(value) if isinstance(value, str) else None
        return Problem(self.spec.name, _FIELD, reason, fix, shown, warning, remedy)

    # ---- number format

    def dtype(self) -> list[Problem]:
        """check_if_supports_dtype of platforms/cuda.py (worker/worker.py in old releases), for bfloat16."""
        field, remedy = "engine.dtype", {"engine": {"dtype": "half"}}
        fix = "Write engine.dtype: half, or use newer GPUs"
        asked = str(self.spec.engine.get("dtype", "auto")).lower()
        if asked == "bfloat16":
            found = capability_problem(self.spec, self.gpus, _BFLOAT16, field, "bfloat16", fix, asked)
        elif asked == "auto" and self._is_bfloat16():
            found = capability_problem(
                self.spec, self.gpus, _BFLOAT16, field, "bfloat16, which the checkpoint is made for,", fix
            )
            if self.version >= _AUTO_DTYPE_FALLS_BACK and found:
                bad, _every = unfit(self.gpus, lambda value: value >= _BFLOAT16)
                reason = (
                    f"the checkpoint is made for bfloat16, which {', '.join(bad)} cannot compute: vLLM takes float16 "
                    "there, or float32 for models that overflow in float16"
                )
                return [Problem(self.spec.name, field, reason, "Write engine.dtype: half to say so", warning=True)]
        else:
            return []
        return [dataclasses.replace(one, remedy=None if one.warning else remedy) for one in found]

    def _is_bfloat16(self) -> bool:
        """Whether config.json says that the model is made for bfloat16, at its top or where its text model is."""
        if self.profile is None or not any(number(gpu) for gpu in self.gpus):
            return False
        config: t.Any = self.profile["config"]
        places = [config]
        for key in filter(None, str(self.profile.get("text_config_path") or "").split(".")):
            config = config.get(key) if isinstance(config, dict) else None
            places.append(config)
        said = [place.get(key) for place in places if isinstance(place, dict) for key in ("torch_dtype", "dtype")]
        return next((one in _WORDS_FOR_BFLOAT16 for one in said if one is not None), False)


def _held(profile: t.Mapping[str, t.Any]) -> _Held | None:
    """What the profile says; None where it says nothing, or nothing that can be told for certain."""
    found = profile.get("quantization") or {}
    method, source = found.get("method"), str(found.get("source") or "")
    if not isinstance(method, str) or not method.strip():
        return None
    details: t.Any = {}
    if source.startswith("config.json: "):
        details = profile["config"]
        for key in source.removeprefix("config.json: ").split("."):
            details = details.get(key) if isinstance(details, dict) else None
    method = method.strip().lower().replace("compressed_tensors", "compressed-tensors")
    algorithm = found.get("algorithm")
    algorithm = algorithm.upper() if isinstance(algorithm, str) else ""
    return _Held(method, details if isinstance(details, dict) else {}, source, algorithm)


def _source(held: _Held | None) -> str:
    return held.source if held else ""
