# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Runs inside the engine's image: all-reduces over every rank, their sums and times as JSON lines on standard output.

Its text is handed to the image's python3, so it imports nothing but the standard library and, in each rank, PyTorch.
One process for each rank of this host; each tells in the common store how far it is, so that whoever waits can say for
whom.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
import typing as t

MARK = "COLLECTIVE "
# Seconds that the other ranks of a host get to say their word after one has failed.
GRACE_SECONDS = 5
# Seconds between two signs of life of a rank.
BEAT_SECONDS = 0.5
# Exit codes of a rank: it failed by itself; it waited in vain for others.
FAILED, WAITED = 1, 3
# What a rank says of itself on its way; the sizes come between.
JOINED, GROUPED = "joined", "in the group"


def say(rank: int, event: str, **facts: t.Any) -> None:
    """One line of the report."""
    sys.stdout.write(MARK + json.dumps(dict(facts, rank=rank, event=event)) + "\n")
    sys.stdout.flush()


def bandwidth(size: int, seconds: float, world: int) -> tuple[float, float]:
    """Bytes a second as the application sees them, and as every link carries them (nccl-tests, doc/PERFORMANCE.md)."""
    if seconds <= 0:
        return 0.0, 0.0
    return size / seconds, size / seconds * 2 * (world - 1) / world


class Rank:
    """One process of the group. task: see main."""

    def __init__(self, task: dict[str, t.Any], local: int) -> None:
        self.task, self.local = task, local
        self.rank = task["first_rank"] + local
        self.world = task["world_size"]
        self.store: t.Any = None

    def run(self) -> int:
        """The whole way of a rank; its exit code."""
        import datetime

        import torch
        import torch.distributed as dist

        say(self.rank, "began", host=socket.gethostname(), pid=os.getpid(), torch=torch.__version__)
        timer = threading.Timer(self.task["timeout_seconds"], self.give_up)
        timer.daemon = True
        timer.start()
        limit = datetime.timedelta(seconds=self.task["timeout_seconds"])
        place = self.task["address"], self.task["port"]
        try:
            self.store = dist.TCPStore(place[0], place[1], self.world, self.rank == 0, limit, wait_for_workers=False)
        except Exception as error:  # whatever PyTorch raises here, the answer is the same
            say(self.rank, "no_store", error=str(error), address="{}:{}".format(*place))
            return FAILED
        self.tell(JOINED)
        threading.Thread(target=self.beat, daemon=True).start()
        self.store.wait([f"at/{rank}" for rank in range(self.world)], limit)
        device = self.device(torch)
        dist.init_process_group(
            self.task["backend"],
            store=dist.PrefixStore("group", self.store),
            rank=self.rank,
            world_size=self.world,
            timeout=limit,
        )
        self.tell(GROUPED)
        say(self.rank, "grouped", device=str(device), nccl=self.nccl(torch))
        for size in self.task["sizes"]:
            self.reduce(torch, dist, device, size)
        self.tell("done")
        # Nobody leaves, and rank 0 with the store last, before all are through.
        self.store.add("through", 1)
        until = time.monotonic() + GRACE_SECONDS
        while self.rank == 0 and self.store.add("through", 0) < self.world and time.monotonic() < until:
            time.sleep(0.05)
        say(self.rank, "done")
        dist.destroy_process_group()
        return 0

    def device(self, torch: t.Any) -> t.Any:
        """Where the tensors live."""
        if self.task["backend"] != "nccl":
            return torch.device("cpu")
        torch.cuda.set_device(self.local)
        return torch.device("cuda", self.local)

    def nccl(self, torch: t.Any) -> str | None:
        """NCCL's version as PyTorch tells it."""
        if self.task["backend"] != "nccl":
            return None
        return ".".join(str(part) for part in torch.cuda.nccl.version())

    def reduce(self, torch: t.Any, dist: t.Any, device: t.Any, size: int) -> None:
        """One size: is the sum right, and how long does it take?"""
        self.tell(f"reducing {size} bytes")
        count = max(1, size // 4)
        # Small whole numbers, so that the sum in float32 is exact: rank 0 gives 1, rank 1 gives 2 ... times 0 to 7.
        pattern = torch.arange(count, device=device, dtype=torch.float32) % 8
        tensor = pattern * (self.rank + 1)
        dist.all_reduce(tensor)
        right = bool(torch.equal(tensor, pattern * (self.world * (self.world + 1) // 2)))
        tensor.zero_()
        self.wait(torch)
        times = []
        for _turn in range(self.task["repeat"]):
            began = time.perf_counter()
            dist.all_reduce(tensor)
            self.wait(torch)
            times.append(time.perf_counter() - began)
        seconds = sorted(times)[len(times) // 2]
        seen, carried = bandwidth(count * 4, seconds, self.world)
        say(self.rank, "reduced", bytes=count * 4, seconds=seconds, right=right, algorithm=seen, bus=carried)

    def wait(self, torch: t.Any) -> None:
        """Until the device has done what it was given."""
        if self.task["backend"] == "nccl":
            torch.cuda.synchronize()

    def tell(self, where: str) -> None:
        """Tell all ranks how far this one is."""
        self.store.set(f"at/{self.rank}", where)

    def connect(self) -> t.Any:
        """A connection of its own to the store; the first may be what hangs."""
        import datetime

        import torch.distributed as dist

        limit = datetime.timedelta(seconds=GRACE_SECONDS)
        return dist.TCPStore(self.task["address"], self.task["port"], self.world, False, limit)

    def beat(self) -> None:
        """Say again and again that this process lives; one that is frozen or gone does not."""
        store = self.connect()
        while True:
            store.add(f"beat/{self.rank}", 1)
            time.sleep(BEAT_SECONDS)

    def give_up(self) -> None:
        """The time is over: say how far each rank is."""
        say(self.rank, "waited", seconds=self.task["timeout_seconds"], **self.places())
        os._exit(WAITED)

    def places(self) -> dict[str, t.Any]:
        """How far each rank is (at; null for one that never came), and which have come and are silent now."""
        try:
            store = self.connect()
            came = [rank for rank in range(self.world) if store.check([f"at/{rank}"])]
            before = {rank: store.add(f"beat/{rank}", 0) for rank in came}
            time.sleep(4 * BEAT_SECONDS)
            return {
                "at": {rank: store.get(f"at/{rank}").decode() if rank in came else None for rank in range(self.world)},
                "silent": [rank for rank in came if store.add(f"beat/{rank}", 0) == before[rank]],
            }
        except Exception as error:  # without the store the line is still worth having
            return {"at": {}, "silent": [], "lost": str(error)}


def child(task: dict[str, t.Any], local: int) -> None:
    """What a forked process does; never returns."""
    rank = Rank(task, local)
    try:
        code = rank.run()
    except BaseException as error:  # everything must become a line of the report
        say(rank.rank, "failed", error=f"{type(error).__name__}: {error}", **rank.places() if rank.store else {})
        code = FAILED
    sys.stdout.flush()
    os._exit(code)


def main(task: dict[str, t.Any]) -> int:
    """Start the ranks of this host and wait for them; the exit code.

    task: backend, address, port, world_size, first_rank, processes (of this host), sizes (bytes), repeat and
    timeout_seconds.
    """
    children = {}
    for local in range(task["processes"]):
        pid = os.fork()
        if pid == 0:
            child(task, local)
        children[pid] = task["first_rank"] + local
    worst = 0
    until: float | None = None
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            if until is not None and time.monotonic() > until:
                for left in children:
                    os.kill(left, signal.SIGKILL)
            time.sleep(0.05)
            continue
        rank = children.pop(pid)
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else FAILED
        if os.WIFSIGNALED(status):
            say(rank, "killed", signal=os.WTERMSIG(status))
        worst = max(worst, code)
        if code and until is None:
            until = time.monotonic() + GRACE_SECONDS
    return worst


if __name__ == "__main__":
    # This is a program of the image, and no part of a module there.
    raise SystemExit(main(json.loads(sys.argv[1])))
