# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets reach the server through files that only its user can read, and are seen nowhere else."""

from __future__ import annotations

import json
import pathlib
import subprocess
import typing as t

import pytest
from integration.library.conftest import Host

KEY = "sk-\"q'$(id)`;&\\ end-4711"
# As the plan renders it: the value is read inside the container.
READER = (
    "import os, sys; "
    "os.environb[b'VLLM_API_KEY'] = open('/run/secrets/vllm/api_key', 'rb').read().rstrip(b'\\n'); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)
WRAPPER = ["python3", "-I", "-c", READER]


def keyed(host: t.Any, **changes: t.Any) -> dict[str, t.Any]:
    return host.server(entrypoint=[*WRAPPER, "vllm", "serve"], **changes)


def files(host: t.Any) -> list[t.Any]:
    return sorted(path for path in (host.state_dir / "secrets").rglob("*") if path.is_file())


def test_a_secret_from_its_first_use_to_its_end(host: t.Any) -> None:
    server = keyed(host, user="1000:1000")
    secrets = {"a": {"api_key": KEY, "hub_token": 4711}}
    foreseen = host.run(server, secrets=secrets, check=True)
    assert not host.state_dir.exists()
    done = host.run(server, secrets=secrets)
    assert done["servers"][0]["state"] == "ready"
    assert (foreseen["actions"], foreseen["diff"]) == (done["actions"], done["diff"])
    assert [
        (path.name, path.read_text(), oct(path.stat().st_mode & 0o777), path.stat().st_uid) for path in files(host)
    ] == [
        ("api_key", KEY, "0o600", 1000),
        ("hub_token", "4711", "0o600", 1000),
    ]
    container = host.containers()["a"]
    seen = json.dumps([container.attrs, done, [event for _name, event in host.events]]) + container.logs().decode()
    assert "end-4711" not in seen
    assert host.run(server, secrets=secrets)["changed"] is False

    rotated = {"a": {"api_key": "other", "hub_token": 4711}}
    foreseen = host.run(server, secrets=rotated, check=True)
    done = host.run(server, secrets=rotated, keep_generations=1)
    assert (foreseen["actions"], foreseen["diff"]) == (done["actions"], done["diff"])
    assert done["diff"]["after"][server["name"]]["secrets"] == "other values"
    assert [path.read_text() for path in files(host)] == ["other", "4711"]

    # A wrong key is refused by the server itself, and the former files stay for the former container.
    error = host.refused({**server, "entrypoint": [], "command": [*server["command"], "--api-key", "k"]})
    assert "401" in str(error)
    assert "secrets.api_key" in str(error)
    assert [path.read_text() for path in files(host)] == ["other", "4711"]
    assert host.run(server, secrets=rotated)["changed"] is False

    bare = {**server, "entrypoint": []}
    # The former generation needs its files as long as it is kept.
    assert host.run(bare)["actions"][0]["action"] == "replace"
    assert [path.read_text() for path in files(host)] == ["other", "4711"]
    assert host.run({**bare, "cpus": 1}, keep_generations=1)["actions"][0]["action"] == "replace"
    assert files(host) == []
    assert host.run({**bare, "cpus": 1})["changed"] is False


def test_no_failure_shows_a_secret(host: t.Any, tmp_path: pathlib.Path) -> None:
    last_words = tmp_path / "log"
    last_words.write_text("the key is end-4711 here\n")
    mount = {"source": str(last_words), "target": "/log", "read_only": True}
    server = keyed(host, env={"STAND_IN_DIE_AT": "config", "STAND_IN_DIE_LOG": "/log"}, mounts=[mount])
    error = host.refused(server, secrets={"a": {"api_key": "end-4711"}})
    (failure,) = error.details["failures"]
    with open(failure["log_file"], encoding="utf-8") as kept:
        text = kept.read()
    assert "the key is ******** here" in failure["log"]
    assert "end-4711" not in text + str(error) + json.dumps(error.details)
    assert files(host) == []


@pytest.mark.parametrize("state", ["absent", "started"])
def test_secrets_of_containers_that_are_gone_are_removed(host: t.Any, kinds: t.Any, state: str) -> None:
    server = keyed(host)
    host.run(server, secrets={"a": {"api_key": KEY}}, state="present")
    host.containers()["a"].remove(force=True)
    assert len(files(host)) == 1
    assert kinds(host.run(state=state, prune=True)) == ["forget"]
    assert list((host.state_dir / "secrets").iterdir()) == []
    assert host.run(state=state, prune=True)["changed"] is False


def test_absent_removes_secrets(host: t.Any) -> None:
    server = keyed(host)
    host.run(server, secrets={"a": {"api_key": KEY}}, state="present")
    host.run(server, state="absent")
    assert (files(host), host.containers()) == ([], {})


@pytest.mark.parametrize("which", [0, 1])
def test_secret_files_that_are_gone_are_drift(host: t.Any, which: int) -> None:
    """One of several is enough: the server would miss it at its next restart."""
    server, secrets = keyed(host), {"a": {"api_key": KEY, "hub_token": "h"}}
    host.run(server, secrets=secrets)
    files(host)[which].unlink()
    done = host.run(server, secrets=secrets)
    assert [(a["action"], a["because"]) for a in done["actions"]] == [("replace", ["secret files are gone"])]
    assert (done["servers"][0]["state"], [path.read_text() for path in files(host)]) == ("ready", [KEY, "h"])


def test_a_file_beside_the_secrets_is_mended_once(host: t.Any) -> None:
    server, secrets = keyed(host), {"a": {"api_key": KEY}}
    host.run(server, secrets=secrets)
    (key,) = files(host)
    (key.parent / "api_key~").write_text("an editor's copy")
    assert host.run(server, secrets=secrets)["changed"] is True
    assert ([path.name for path in files(host)], host.run(server, secrets=secrets)["changed"]) == (["api_key"], False)


def test_fleets_that_share_a_state_folder_keep_what_is_theirs(
    host: t.Any, kinds: t.Any, tmp_path: pathlib.Path
) -> None:
    """One by its container, one by its generation alone."""
    other, secrets = Host(tmp_path), {"a": {"api_key": KEY}, "b": {"api_key": KEY}}
    try:
        theirs = [
            other.server(
                name,
                entrypoint=[*WRAPPER, "vllm", "serve"],
                probe={"kind": "generate", "served_names": [], "max_model_len": None},
            )
            for name in "ab"
        ]
        other.run(*theirs, secrets=secrets)
        other.containers()["b"].remove(force=True)
        kept = sorted(path for path in other.state_dir.rglob("*") if path.is_file() and path.name != "lock")
        assert kinds(host.run(prune=True)) == []
        assert kinds(host.run(state="absent", prune=True)) == []
        assert sorted(path for path in other.state_dir.rglob("*") if path.is_file() and path.name != "lock") == kept
        assert kinds(other.run(*theirs[:1], secrets=secrets, prune=True)) == ["forget"]
    finally:
        other.clean()


def certificate(folder: pathlib.Path, name: str) -> dict[str, str]:
    """A key and the certificate that it signed itself, as secrets."""
    make = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={name}"
    key, cert = folder / f"{name}.key", folder / f"{name}.crt"
    subprocess.run([*make.split(), "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return {"tls_key": key.read_text(), "tls_cert": cert.read_text()}


def test_tls_with_key_and_certificate_as_secrets(host: t.Any, tmp_path: pathlib.Path) -> None:
    """Its own probes speak TLS and know the certificate; the key is a file; another certificate is another server."""
    tls = ["--ssl-keyfile", "/run/secrets/vllm/tls_key", "--ssl-certfile", "/run/secrets/vllm/tls_cert"]
    server = keyed(host, user="1000:1000")
    server["command"] = [*server["command"], *tls]
    pair = certificate(tmp_path, "llm.example")
    secrets = {"a": {"api_key": KEY, **pair}}
    done = host.run(server, secrets=secrets)
    url = f"https://127.0.0.1:{server['listen']['port']}"
    assert (done["servers"][0]["state"], done["servers"][0]["url"]) == ("ready", url)
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in files(host)}["tls_key"] == "0o600"
    container = host.containers()["a"]
    seen = json.dumps([container.attrs, done, [event for _name, event in host.events]]) + container.logs().decode()
    assert not [line for line in pair["tls_key"].splitlines()[1:-1] if line in seen]
    health = container.attrs["Config"]["Healthcheck"]["Test"][1:]
    assert container.exec_run(health).exit_code == 0
    assert host.run(server, secrets=secrets)["changed"] is False

    trusted = {"a": {**secrets["a"], "tls_ca": certificate(tmp_path, "somebody.else")["tls_cert"]}}
    error = host.refused(server, secrets=trusted)
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)
    assert host.run(server, secrets=secrets)["changed"] is False

    rotated = {"a": {**secrets["a"], **certificate(tmp_path, "llm.example")}}
    assert host.run(server, secrets=rotated)["actions"][0]["action"] == "replace"


@pytest.mark.parametrize(
    ("secrets", "words"),
    [
        ({"a": "text"}, "secrets of a: must map names to values"),
        ({"a": {"api_key": ["x"]}}, "secrets of a: api_key must be one text"),
        ({"a": {"../x": "y"}}, "'../x' cannot be the name of a file"),
    ],
)
def test_secrets_of_a_wrong_form_are_refused(host: t.Any, secrets: t.Any, words: str) -> None:
    assert words in str(host.refused(host.server(), secrets=secrets))


def test_a_user_without_a_number_is_refused(host: t.Any) -> None:
    error = host.refused(host.server(user="nobody"), secrets={"a": {"api_key": KEY}})
    assert "'nobody' is a name" in str(error)
    assert host.containers() == {}
