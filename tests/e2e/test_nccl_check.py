# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All-reduces over Gloo in the image of real vLLM (its CPU build): one container, two as two hosts, and what goes "
"wrong."""

from __future__ import annotations

import pathlib
import random
import threading
import time
import typing as t

import docker
import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._collective.check import LABEL_CHECK, CheckFailed, check
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import Refused
from support.fleet import Fleet, engine

PORT = 29500


@pytest.fixture(scope="module")
def image() -> str:
    """The image with PyTorch and Gloo."""
    return engine("real")


@pytest.fixture
def network() -> t.Iterator[t.Any]:
    """A Docker network of the test's own, on which two containers are two hosts."""
    client = docker.from_env()
    made = client.networks.create(f"gpufleet-nccl-{random.randrange(16**8):08x}", driver="bridge")
    try:
        yield client.networks.get(made.id)
    finally:
        made.remove()
        client.close()


def params(image: str, **changes: t.Any) -> dict[str, t.Any]:
    given = {
        "image": image,
        "gpus": None,
        "processes": 2,
        "world_size": None,
        "first_rank": 0,
        "master_address": "127.0.0.1",
        "master_port": PORT,
        "network": "none",
        "env": {},
        "sizes": [1024, 2**20, 2**24],
        "repeat": 3,
        "timeout_seconds": 600,
        "shm_bytes": 2**28,
        "user": "",
    }
    return {**given, **changes}


def left() -> list[t.Any]:
    """Containers of checks."""
    return docker.from_env().containers.list(all=True, filters={"label": LABEL_CHECK}, ignore_removed=True)


def test_two_ranks_of_one_host(image: str) -> None:
    done = check(params(image), False)
    assert [one["bytes"] for one in done["sizes"]] == [1024, 2**20, 2**24]
    assert all(one["correct"] and one["bus_gb_per_second"] > 0 for one in done["sizes"][1:])
    assert [one["device"] for one in done["ranks"]] == ["cpu", "cpu"]
    assert left() == []


def test_two_hosts_on_a_network(image: str, network: t.Any) -> None:
    results: dict[int, t.Any] = {}

    def host(number: int, address: str) -> None:
        results[number] = check(
            params(
                image,
                processes=1,
                world_size=2,
                first_rank=number,
                network=network.name,
                master_address=address,
                env={"GLOO_SOCKET_IFNAME": "eth0"},
            ),
            False,
        )

    # The first container of a new network gets the address after the gateway's.
    gateway = network.attrs["IPAM"]["Config"][0]["Gateway"]
    address = gateway.rpartition(".")[0] + ".2"
    first = threading.Thread(target=host, args=(0, address))
    first.start()
    until = time.monotonic() + 600
    while not network.containers and time.monotonic() < until:
        time.sleep(0.05)
        network.reload()
    host(1, address)
    first.join()
    assert [results[number]["ranks"][0]["rank"] for number in (0, 1)] == [0, 1]
    assert all(one["correct"] for result in results.values() for one in result["sizes"])
    assert left() == []


def test_the_rank_that_does_not_come_is_named(image: str) -> None:
    # The others need this long to import PyTorch one after the other on a loaded machine.
    with pytest.raises(CheckFailed, match="Rank 2 of 3 did not come within 30 s"):
        check(params(image, world_size=3, network="bridge", master_address="0.0.0.0", timeout_seconds=30), False)
    assert left() == []


def test_a_frozen_rank_is_named(image: str) -> None:
    """One of two processes is stopped while they reduce; the other tells how far both are."""
    failed: list[CheckFailed] = []

    def run() -> None:
        with pytest.raises(CheckFailed) as caught:
            check(params(image, sizes=[2**26] * 200, repeat=50, timeout_seconds=60), False)
        failed.append(caught.value)

    thread = threading.Thread(target=run)
    thread.start()
    until = time.monotonic() + 600
    while not (there := left()) and time.monotonic() < until:
        time.sleep(0.05)
    while b"grouped" not in there[0].logs() and time.monotonic() < until:
        time.sleep(0.1)
    # The image's shell has no kill of its own that knows children, so python3 sends the signal to the youngest.
    program = (
        "import os, signal; ids = [int(name) for name in os.listdir('/proc') if name.isdigit()]; "
        "ranks = [one for one in ids if b'COLLECTIVE' in open(f'/proc/{one}/cmdline', 'rb').read()]; "
        "os.kill(max(one for one in ranks if one != os.getpid()), signal.SIGSTOP)"
    )
    assert there[0].exec_run(["python3", "-c", program]).exit_code == 0
    thread.join()
    assert "of 2 was reducing 67108864 bytes and gives no sign of life" in str(failed[0]), str(failed[0])
    assert left() == []


def test_what_the_image_lacks_and_what_the_host_lacks(image: str) -> None:
    with pytest.raises(CheckFailed, match="Rank [01] failed: ModuleNotFoundError: No module named 'torch'"):
        check(params(engine("stand-in")), False)
    with pytest.raises(Refused, match="is not on this host"):
        check(params("no/such:1"), False)
    assert left() == []


def test_the_playbook_and_its_check_mode(image: str, tmp_path: pathlib.Path) -> None:
    fleet = Fleet(tmp_path, "2.21", engine("stand-in"), tmp_path)
    planned = fleet.play("nccl_check", "--check", nccl_check_image=image)
    assert planned.unchanged
    assert planned.results("nccl_check")[0]["sizes"] == []
    played = fleet.play("nccl_check", nccl_check_image=image, nccl_check_sizes=[2**20])
    assert played.unchanged
    (result,) = played.results("nccl_check")
    assert [(one["bytes"], one["correct"]) for one in result["sizes"]] == [(2**20, True)]
    missing = fleet.play("nccl_check", nccl_check_image="no/such:1")
    assert missing.rc != 0 and "The image no/such:1 is not on one" in missing.failure
    assert left() == []
