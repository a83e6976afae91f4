# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user declares of one model. The one source of validation, documentation and JSON Schema.

Engine options are not listed here: their names, types and choices are those of the vLLM release in the image (see
_release).
"""

from __future__ import annotations

import re
import typing as t

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyAddress,
    SecretStr,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.fields import Bytes, GpuSelection, Port
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.plain import short

# A container's name must be unique and readable; Docker allows [a-zA-Z0-9][a-zA-Z0-9_.-]*, and the replica's number is
# added.
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,60}[a-z0-9])?")
# None begins with a dash, which the parser of vLLM's arguments would take for an option.
_HUB_ID = re.compile(r"[\w.][\w.-]*(/[\w.-]+)?", re.ASCII)
_USER = re.compile(r"\d{1,10}(:\d{1,10})?", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DEVICE = re.compile(r"^/dev(/[A-Za-z0-9_][A-Za-z0-9_.:-]*)+$")
_PEM_KEY = re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----")
# Names whose values are secrets wherever they are used; they belong under secrets, for env is shown by docker inspect.
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:TOKEN|API_?KEYS?|PASSWORD|PASSWD|PASSPHRASE|SECRET|SECRET_KEY|ACCESS_KEY|PRIVATE_KEY)$", re.IGNORECASE
)


class _Strict(BaseModel):
    # Values are hidden in errors because any of them may be a secret that was put in the wrong place. Numbers are taken
    # where texts are wanted and the other way round, because templates, surveys and -e turn one into the other.
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, coerce_numbers_to_str=True, frozen=True)


class Placement(_Strict):
    """Where replicas may run."""

    hosts: t.Annotated[list[str] | None, Field(description="Hosts or inventory groups; all hosts by default.")] = None
    gpus: t.Annotated[
        GpuSelection,
        Field(
            description="GPUs of the host that runs the replica: a list of indices or UUIDs, also of MIG devices, "
            "names exactly these; a mapping of count, name (with * and ?), memory and compute_capability (both at "
            "least) selects among them."
        ),
    ] = None
    spread: t.Annotated[
        t.Literal["host", "none"],
        Field(description="host: no two replicas on one host while another host has room; none: fill hosts in order."),
    ] = "host"

    @field_validator("hosts", mode="before", json_schema_input_type=list[str] | str | None)
    @classmethod
    def _one_host(cls, value: t.Any) -> t.Any:
        value = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        if value == [] or (isinstance(value, list) and "" in value):
            raise ValueError("names no host")
        return value


class Listen(_Strict):
    """Where the server listens on its host."""

    address: t.Annotated[
        IPvAnyAddress,
        WithJsonSchema({"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}),
        Field(description="IP address of the host; loopback by default.", validate_default=True),
    ] = "127.0.0.1"  # type: ignore[assignment]  # validate_default makes an address of it
    port: t.Annotated[Port, Field(description="TCP port; auto takes a free one of the host's range and keeps it.")] = (
        "auto"
    )


class Limits(_Strict):
    """Limits of the container on its host."""

    memory: t.Annotated[Bytes, Field(description="Host memory; none by default.")] = None
    cpus: t.Annotated[float | None, Field(gt=0, description="CPU cores; all by default.")] = None
    shm: t.Annotated[Bytes, Field(description="Shared memory; 1 GiB and 1 GiB a GPU by default.")] = None


class Container(_Strict):
    """What the container gets beyond the least that an engine needs; docs/security.md says what each is for."""

    cap_add: t.Annotated[
        list[t.Literal["IPC_LOCK", "SYS_NICE", "SYS_PTRACE"]],
        Field(
            description="Capabilities; none by default, and only a user 0 can use them. IPC_LOCK: registering memory "
            "for InfiniBand where memlock is limited; SYS_NICE: numa_bind; SYS_PTRACE: py-spy, and ROCm between "
            "processes."
        ),
    ] = []
    devices: t.Annotated[
        list[t.Annotated[str, Field(pattern=_DEVICE.pattern)]],
        Field(description="Devices of the host beside the GPUs, such as /dev/infiniband/uverbs0."),
    ] = []
    groups: t.Annotated[
        list[t.Annotated[int, Field(ge=0, le=2**32 - 2)]],
        Field(description="Numbers of groups of the host that may use these devices or read the model's files."),
    ] = []
    ipc: t.Annotated[
        t.Literal["private", "host"],
        Field(description="host: the host's shared memory, for processes of other containers that share the weights."),
    ] = "private"
    read_only_root: t.Annotated[
        bool, Field(description="false: the image's own files can be written, for images that install at their start.")
    ] = True
    pids: t.Annotated[
        int | None, Field(ge=64, le=4194304, description="Processes and threads at most; null for no limit.")
    ] = 32768
    ulimits: t.Annotated[
        dict[t.Literal["memlock", "nofile", "stack"], t.Annotated[int, Field(ge=-1)] | None],
        Field(
            description="Limits of a process; -1 for none, null for that of the Docker Engine. On GPUs memlock is -1, "
            "stack 64 MiB and nofile 65536 by default, on a CPU none is set."
        ),
    ] = {}


class Secrets(_Strict):
    """Secrets; each reaches the container as a file of mode 0600 and appears nowhere else."""

    api_key: t.Annotated[
        SecretStr | None, Field(description="Key that /v1 requests must bring.", json_schema_extra={"pattern": r"\S"})
    ] = None
    hub_token: t.Annotated[
        SecretStr | None, Field(description="Token of the Hugging Face hub.", json_schema_extra={"pattern": r"\S"})
    ] = None
    tls_key: t.Annotated[
        SecretStr | None,
        Field(
            description="Private key in PEM form, without a passphrase; the server then speaks HTTPS only.",
            json_schema_extra={"pattern": r"\S"},
        ),
    ] = None
    tls_cert: t.Annotated[
        SecretStr | None,
        Field(
            description="Certificate of that key in PEM form, followed by those between it and the CA.",
            json_schema_extra={"pattern": r"\S"},
        ),
    ] = None
    tls_ca: t.Annotated[
        SecretStr | None,
        Field(
            description="Certificates of the CA, by which the probes know the server; by default they expect "
            "tls_cert itself.",
            json_schema_extra={"pattern": r"\S"},
        ),
    ] = None

    @field_validator("*")
    @classmethod
    def _not_empty(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().strip():
            raise ValueError("is empty; leave it out where no secret is wanted")
        return value

    @field_validator("tls_key")
    @classmethod
    def _key(cls, value: SecretStr | None) -> SecretStr | None:
        text = value.get_secret_value() if value is not None else None
        if text is not None and not _PEM_KEY.search(text):
            raise ValueError("holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)")
        if text is not None and "ENCRYPTED" in text:
            raise ValueError("needs a passphrase, which nobody types when the server starts; give it without one")
        return value

    @field_validator("tls_cert", "tls_ca")
    @classmethod
    def _certificate(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and "-----BEGIN CERTIFICATE-----" not in value.get_secret_value():
            raise ValueError("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
        return value

    @model_validator(mode="after")
    def _pair(self) -> t.Self:
        if (self.tls_key is None) != (self.tls_cert is None):
            raise ValueError("tls_key and tls_cert belong together; give both or none")
        if self.tls_ca is not None and self.tls_cert is None:
            raise ValueError("tls_ca tells who signed tls_cert; give tls_key and tls_cert with it")
        return self


class ModelSpec(_Strict):
    """One model and its replicas."""

    name: t.Annotated[
        str,
        Field(
            description="Served name, and part of the containers' names.",
            json_schema_extra={"pattern": f"^{_NAME.pattern}$"},
        ),
    ]
    model: t.Annotated[
        str,
        Field(
            min_length=1,
            description="Hub id, or absolute path on the host.",
            json_schema_extra={"pattern": f"^(/.*|{_HUB_ID.pattern})$"},
        ),
    ]
    revision: t.Annotated[
        str | None,
        Field(description="Commit, branch or tag of the hub repository.", json_schema_extra={"pattern": "^(?!-)"}),
    ] = None
    image: t.Annotated[str, Field(min_length=1, description="Engine image with tag or digest.")]
    replicas: t.Annotated[int, Field(ge=1, le=512, description="Number of servers.")] = 1
    engine: t.Annotated[
        dict[str, t.Any],
        Field(description="vLLM's own options in snake_case, checked against the release in the image."),
    ] = {}
    env: t.Annotated[
        dict[str, str],
        Field(
            description="Environment variables of the container; never secrets.",
            json_schema_extra={
                "propertyNames": {"pattern": f"^{_VARIABLE.pattern}$", "not": {"pattern": _SECRET_NAME.pattern}}
            },
        ),
    ] = {}
    entrypoint: t.Annotated[
        list[str] | None, Field(description="Replaces the image's entrypoint, for images that need another.")
    ] = None
    user: t.Annotated[
        str | None,
        Field(
            description="uid or uid:gid of the container; the image's user by default.",
            json_schema_extra={"pattern": f"^{_USER.pattern}$"},
        ),
    ] = None
    placement: Placement = Placement()
    listen: Listen = Listen()
    limits: Limits = Limits()
    container: Container = Container()
    secrets: Secrets = Secrets()
    offline: t.Annotated[bool, Field(description="The container asks no hub for anything.")] = False

    @field_validator("name")
    @classmethod
    def _container_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError(
                "is no name of 1 to 62 of a-z, 0-9, '.', '_' and '-' that begins and ends with a letter or digit"
            )
        return value

    @field_validator("model")
    @classmethod
    def _path_or_id(cls, value: str) -> str:
        if not value.startswith("/") and not _HUB_ID.fullmatch(value):
            raise ValueError("is neither a hub id (name or organisation/name) nor an absolute path")
        return value

    @field_validator("revision")
    @classmethod
    def _no_option(cls, value: str | None) -> str | None:
        if value is not None and value.startswith("-"):
            raise ValueError("begins with '-', as no commit, branch or tag does")
        return value

    @field_validator("user")
    @classmethod
    def _numbers(cls, value: str | None) -> str | None:
        if value is not None and not _USER.fullmatch(value):
            raise ValueError("is neither a uid nor uid:gid, both as numbers")
        return value

    @field_validator("env")
    @classmethod
    def _no_secret_in_env(cls, value: dict[str, str]) -> dict[str, str]:
        # A whole assignment may have been written as the name, with a secret behind the sign.
        odd = sorted(short(name.partition("=")[0]) for name in value if not _VARIABLE.fullmatch(name))
        if odd:
            raise ValueError(f"{', '.join(odd)}: a variable's name has letters, digits and '_' only")
        names = sorted(name for name in value if _SECRET_NAME.search(name))
        if names:
            raise ValueError(
                f"{', '.join(names)} would be shown by docker inspect; give it as secrets.api_key or secrets.hub_token"
            )
        return value

    @property
    def is_path(self) -> bool:
        """Whether the model is a path on the host."""
        return self.model.startswith("/")
