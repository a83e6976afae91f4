# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Going back to what a server was, on a real Docker Engine: image, arguments, environment and secrets together."""

from __future__ import annotations

import json
import pathlib
import typing as t

import docker.errors
import pytest

WRAPPER = ["/bin/sh", "-c", 'VLLM_API_KEY="$(cat /run/secrets/vllm/api_key)" && export VLLM_API_KEY && exec "$@"', "sh"]


@pytest.fixture
def builds(host: t.Any) -> t.Iterator[t.Callable[[str], tuple[str, str]]]:
    """Makes another build of the stand-in under one tag of the test's own: (tag, ID of the build)."""
    tag, made = f"{host.fleet}:1", []

    def build(label: str) -> tuple[str, str]:
        container = host.docker.containers.create(host.server()["image"])
        try:
            image = container.commit(repository=host.fleet, tag="1", conf={"Labels": {"build": label}})
        finally:
            container.remove()
        made.append(image.id)
        return tag, image.id

    yield build
    for container in host.containers().values():
        container.remove(force=True)
    for image in made:
        try:
            host.docker.images.remove(image, force=True)
        except docker.errors.ImageNotFound:
            continue


def numbers(result: t.Mapping[str, t.Any]) -> list[tuple[int, bool, bool]]:
    """Number, whether it runs, whether it was rolled back from, of each generation of the first server."""
    return [(one["number"], one["current"], one["rolled_back"]) for one in result["servers"][0]["generations"]]


def test_a_rollback_restores_everything_together(host: t.Any, kinds: t.Any, builds: t.Any) -> None:
    tag, first = builds("first")
    server = host.server(image=tag, entrypoint=[*WRAPPER, "vllm", "serve"], env={"STAND_IN_START_SECONDS": "0.1"})
    host.run(server, secrets={"a": {"api_key": "old-4711"}})
    _tag, second = builds("second")
    assert first != second
    later = {**server, "command": [*server["command"], "--seed", "7"], "env": {}, "cpus": 1}
    deployed = host.run(later, secrets={"a": {"api_key": "new-4711"}})
    assert numbers(deployed) == [(2, True, False), (1, False, False)]
    assert [f"{tag} is another build" in note for note in deployed["notes"]] == [True]
    before = host.containers()["a"].attrs

    name = {"name": server["name"], "model": "a", "stall_seconds": 20, "probe": None, "listen": None}
    look = host.look()
    foreseen = host.run(name, state="rolled_back", check=True)
    assert host.look() == look
    (row, former) = foreseen["servers"][0]["generations"]
    assert (row["current"], former["image_id"], former["image_found"]) == (True, first, True)
    assert {"image_id", "argv", "env", "cpus"} <= set(former["differs"])
    done = host.run(name, state="rolled_back")
    assert (foreseen["actions"], foreseen["diff"]) == (done["actions"], done["diff"])
    assert (kinds(done), done["notes"]) == (["replace"], [])
    diff = done["diff"]
    assert (diff["before"][server["name"]]["generation"], diff["after"][server["name"]]["generation"]) == (2, 1)
    assert numbers(done) == [(2, False, True), (1, True, False)]
    assert done["servers"][0]["state"] == "ready"
    after = host.containers()["a"].attrs
    assert (after["Image"], before["Image"]) == (first, second)
    assert "--seed" not in after["Config"]["Cmd"]
    assert "STAND_IN_START_SECONDS=0.1" in after["Config"]["Env"]
    assert "4711" not in json.dumps([done, foreseen, [event for _name, event in host.events]])

    again = host.run(name, state="rolled_back")
    assert (again["changed"], numbers(again)) == (False, numbers(done))
    # The inventory still declares the later one.
    assert host.run(later, secrets={"a": {"api_key": "new-4711"}})["changed"] is True
    assert host.run(name, state="rolled_back", generation="1")["changed"] is True
    assert host.run(name, state="absent")["changed"] is True
    assert [path for path in pathlib.Path(host.state_dir).rglob("*") if path.is_file() and path.name != "lock"] == [
        host.state_dir / "salt"
    ]


def test_a_rollback_that_cannot_be_changes_nothing(host: t.Any, builds: t.Any) -> None:
    tag, first = builds("first")
    server = host.server(image=tag)
    assert "no generation of it is kept" in str(host.refused(server, state="rolled_back"))
    host.run(server)
    assert "no generation before 1, which was deployed last" in str(host.refused(server, state="rolled_back"))
    builds("second")
    host.run(server)
    host.docker.images.remove(first, force=True)
    before = host.look()
    for check in (True, False):
        error = host.refused(server, state="rolled_back", check=check)
        assert f"does not have the image of generation 1 any more, {first} (it was {tag})" in str(error)
        assert [one["number"] for one in error.details["generations"][server["name"]]] == [2, 1]
    assert "there is no generation 9; kept are 1, 2" in str(host.refused(server, state="rolled_back", generation="9"))
    assert host.look() == before


def test_a_rollback_that_fails_leaves_the_later_one_serving(host: t.Any) -> None:
    fault = host.state_dir.parent / "fault"
    fault.write_text("")
    # The first one ends at its next start, for the file that it reads has changed.
    program = ["/bin/sh", "-c", '. /fault; exec vllm serve "$@"', "sh"]
    mount = {"source": str(fault), "target": "/fault", "read_only": True}
    server = host.server(entrypoint=program, mounts=[mount])
    host.run(server)
    later = {**server, "mounts": [], "entrypoint": []}
    host.run(later)
    before = host.containers()["a"].id
    fault.write_text("exit 3\n")
    error = host.refused(server, state="rolled_back")
    assert "exit code 3" in str(error)
    assert error.details["failures"][0]["restored"] == "the former container serves again"
    assert host.containers()["a"].id == before
    assert numbers(error.details) == [(2, True, False), (1, False, False)]
    assert host.run(later)["changed"] is False


def test_a_server_that_was_deployed_before_generations_were_kept(host: t.Any) -> None:
    server = host.server()
    host.run(server)
    (host.state_dir / "generations" / f"{server['name']}.json").unlink()
    host.run({**server, "env": {}})
    done = host.run(server, state="rolled_back")
    assert numbers(done) == [(2, False, True), (1, True, False)]
    assert done["servers"][0]["state"] == "ready"
    assert host.run(server)["changed"] is False


def test_what_was_removed_by_hand_is_rolled_back_too(host: t.Any, kinds: t.Any) -> None:
    server = host.server()
    host.run(server)
    host.run({**server, "env": {}})
    host.containers()["a"].remove(force=True)
    assert kinds(host.run(server, state="rolled_back")) == ["create"]
    assert host.run(server)["changed"] is False


def test_kept_generations_are_bounded(host: t.Any) -> None:
    server = host.server()
    for number in range(4):
        done = host.run({**server, "env": {**server["env"], "NUMBER": str(number)}}, keep_generations=2)
    assert [one["number"] for one in done["servers"][0]["generations"]] == [4, 3]
    assert "keep_generations is 0" in str(host.refused(server, keep_generations=0))
