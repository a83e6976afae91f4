# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets appear in no output at any verbosity, in no error, no argument and no docker inspect; and still they work."""

from __future__ import annotations

import json
import typing as t
import urllib.error
import urllib.request

import pytest

from support.fleet import Fleet

# With what breaks shells and JSON.
KEY = "sk-Zx9'\"$(id)`;&\\n-Qw7Yr"
TOKEN = "hf_QmV0d2VlbkhlcmU"
ROTATED = "sk-rotated-Lm4Tz"
THIRD = "sk-third-Hv8Ps"


def fragments(*secrets: str) -> list[str]:
    """The secrets and their longest plain parts, which escaping leaves as they are; no part may be the hex of an id."""
    return [*secrets, "Zx9", "Qw7Yr"]


def keys_on_host(fleet: Fleet) -> set[str]:
    return {path.read_text() for path in (fleet.state_dir / "secrets").rglob("api_key")}


def status_of(port: str, key: str | None) -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/models", headers={"Authorization": f"Bearer {key}"} if key else {}
    )
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture(scope="module")
def guarded(fleets: t.Callable[[], Fleet]) -> Fleet:
    """A model with an API key and a hub token; the tests that use it follow each other."""
    fleet = fleets()
    fleet.models = [fleet.model("guarded", secrets={"api_key": KEY, "hub_token": TOKEN})]
    return fleet


def test_secrets_show_nowhere_and_work(guarded: Fleet) -> None:
    for arguments in (["-vvv", "--check", "--diff"], ["-vvv", "--diff"]):
        played = guarded.deploy(*arguments)
        assert played.rc == 0, played.output[-3000:]
        for secret in fragments(KEY, TOKEN):
            assert secret not in played.output
            assert secret not in json.dumps(played.records)
    container = guarded.containers()["vllm-guarded-0"]
    container.reload()
    inspected = json.dumps(container.attrs)
    top = json.dumps(container.top())
    log = container.logs().decode()
    for secret in fragments(KEY, TOKEN):
        assert secret not in inspected and secret not in top and secret not in log
    port = container.attrs["HostConfig"]["PortBindings"]["8000/tcp"][0]["HostPort"]
    assert (status_of(port, None), status_of(port, "wrong"), status_of(port, KEY)) == (401, 401, 200)
    files = [path for path in (guarded.state_dir / "secrets").rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"api_key", "hub_token"}
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o600"}
    assert guarded.deploy().unchanged


def test_a_rotated_secret_is_drift_and_the_old_one_is_gone(guarded: Fleet) -> None:
    guarded.models[0]["secrets"]["api_key"] = ROTATED
    (result,) = guarded.deploy("--diff", "-vvv").results("vllm_servers")
    assert [one["action"] for one in result["actions"]] == ["replace"]
    assert ROTATED not in json.dumps(result)
    # The former definition is kept for a rollback, its secrets with it.
    assert keys_on_host(guarded) == {KEY, ROTATED}


MISPLACED = {
    "list": {"secrets": {"api_key": [KEY]}},
    "text": {"secrets": KEY},
    "typo": {"secrets": {"api_keyy": KEY}},
    "top": {"api_key": KEY},
    "env": {"env": {"HF_TOKEN": KEY}},
    "engine": {"engine": {"api_key": KEY}},
    "token": {"engine": {"hf_token": KEY}},
}


def test_a_secret_in_the_wrong_place_is_refused_and_not_shown(fleet: Fleet) -> None:
    fleet.models = [{**fleet.model(name), **changes} for name, changes in MISPLACED.items()]
    played = fleet.deploy("-vvv")
    assert played.rc != 0
    for name in MISPLACED:
        assert f"- {name}: " in played.failure
    for secret in fragments(KEY):
        assert secret not in played.output


def test_a_failed_start_shows_no_secret(guarded: Fleet) -> None:
    guarded.models[0]["secrets"]["api_key"] = THIRD
    guarded.models[0]["env"] = {**guarded.models[0]["env"], "STAND_IN_DIE_AT": "config"}
    played = guarded.deploy("-vvv")
    assert played.rc != 0
    for secret in fragments(KEY, TOKEN, ROTATED, THIRD):
        assert secret not in played.output
    # What the former server and its generations use is kept, and nothing of the failed one.
    assert keys_on_host(guarded) == {KEY, ROTATED}
