# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Extract the variables that NCCL and PyTorch's use of it read, for every catalogued release of vLLM.

    python3.11 tools/catalogue/nccl.py --out plugins/plugin_utils/data/catalogue

Run it behind extract.py, which unpacks releases; what is not unpacked stays as it was. The NCCL of a release is the one
that its recipe (Dockerfile) pins, or else the one that the PyTorch it pins asks for. Its wheel comes from the package
index (170 to 320 MB each, kept in .build/catalogue/nccl). NCCL looks its variables up by their full names, so that each
stands whole in the read-only data of the library; what else looks like one is in its debug information. PyTorch's are
in the headers that its wheel for the CPU holds as well; they are those of the one PyTorch that requirements.txt pins.
"""

from __future__ import annotations

import argparse
import json
import re
import struct
import subprocess
import zipfile
from pathlib import Path

from extract import PYTHON, WORK, Facts, replace, spans

WHEELS = WORK / "nccl"
LIBRARY = "nvidia/nccl/lib/libnccl.so.2"
HEADERS = "lib/python3.11/site-packages/torch/include/torch/csrc/distributed/c10d"
NAME = re.compile(rb"(?<=\0)NCCL_[A-Z0-9_]+(?=\0)")
TORCH_NAME = re.compile(r'"((?:TORCH_)?(?:NCCL|FR|GLOO)_[A-Z0-9_]+)"')
# Wheels name the oldest system that they run on; pip wants each of them said.
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_18_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64")
NO_BITS = 8  # SHT_NOBITS of elf.h: a section without bytes in the file


def pip(command: str, requirement: str, *more: str | Path) -> str:
    """Run pip for one requirement as an x86-64 Linux with Python 3.12, the images' own, would; its output."""
    platforms = [f"--platform={platform}" for platform in PLATFORMS]
    line = [PYTHON, "-m", "pip", command, "--quiet", "--no-deps", "--only-binary=:all:", "--python-version=3.12"]
    return subprocess.run([*line, *platforms, *more, requirement], check=True, stdout=subprocess.PIPE, text=True).stdout


def asked_by_torch(version: str) -> str:
    """What the published PyTorch asks for: nvidia-nccl-cu12==2.20.5. Only its metadata is fetched."""
    report = pip("install", f"torch=={version}", "--dry-run", "--ignore-installed", f"--target={WHEELS}", "--report=-")
    required = json.loads(report)["install"][0]["metadata"]["requires_dist"]
    match = next(filter(None, (re.match(r"(nvidia-nccl-cu\d+)\s*\(?==([\d.]+)", one) for one in required)))
    return f"{match[1]}=={match[2]}"


def requirement(folder: Path, torch: dict[str, str]) -> str | None:
    """The NCCL of a release's image; None where its archive tells nothing. torch: what is known of PyTorch's."""
    recipe = folder / "docker" / "Dockerfile"
    text = recipe.read_text(encoding="utf-8") if recipe.exists() else ""
    if pinned := re.search(r"^ARG NCCL_VERSION=([\d.]+)", text, re.M):
        cuda = re.search(r"^ARG CUDA_VERSION=(\d+)", text, re.M)
        return f"nvidia-nccl-cu{cuda[1]}=={pinned[1]}"
    requires = folder / "vllm.egg-info" / "requires.txt"
    found = re.search(r"^torch==([\d.]+)", requires.read_text(encoding="utf-8"), re.M) if requires.exists() else None
    if found is None:
        return None
    if found[1] not in torch:
        torch[found[1]] = asked_by_torch(found[1])
    return torch[found[1]]


def library(wanted: str) -> bytes:
    """libnccl out of the wheel, which is downloaded if it is not there yet."""
    project, _sign, version = wanted.partition("==")
    pattern = f"{project.replace('-', '_')}-{version}-*.whl"
    if not list(WHEELS.glob(pattern)):
        pip("download", wanted, f"--dest={WHEELS}")
    with zipfile.ZipFile(next(WHEELS.glob(pattern))) as wheel:
        return wheel.read(LIBRARY)


def read_only_data(image: bytes) -> bytes:
    """The section .rodata of a 64-bit little-endian ELF file (elf.h: Elf64_Ehdr, Elf64_Shdr)."""
    if image[:6] != b"\x7fELF\x02\x01":
        raise RuntimeError("libnccl is no 64-bit little-endian ELF file")
    (table,) = struct.unpack_from("<Q", image, 40)
    size, count, names = struct.unpack_from("<HHH", image, 58)
    sections = [struct.unpack_from("<IIQQQQ", image, table + index * size) for index in range(count)]
    texts = sections[names][4]
    for name, kind, _flags, _address, offset, length in sections:
        start = texts + name
        if image[start : image.index(b"\0", start)] == b".rodata" and kind != NO_BITS:
            return image[offset : offset + length]
    raise RuntimeError("libnccl has no section .rodata")


def names_of_nccl(wanted: str) -> set[str]:
    """Every variable that this NCCL reads."""
    return {name.decode() for name in NAME.findall(b"\0" + read_only_data(library(wanted)) + b"\0")}


def names_of_torch() -> set[str]:
    """Every variable of PyTorch's process groups, old names that it still reads among them."""
    headers = (WORK / "venv" / HEADERS).glob("*.hpp")
    return {name for header in headers for name in TORCH_NAME.findall(header.read_text(encoding="utf-8"))}


def before(path: Path, order: list[str]) -> dict[str, set[str]]:
    """NCCL's variables of every release, as the catalogue has them."""
    known: dict[str, set[str]] = {version: set() for version in order}
    for name, states in (json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}).items():
        for state in states:
            if "by" not in state:
                last = order.index(state["until"] or order[-1])
                for version in order[order.index(state["since"]) : last + 1]:
                    known[version].add(name)
    return known


def section(known: dict[str, set[str]]) -> dict[str, list[Facts]]:
    """The spans of every name. known: what the catalogue has of each release, for those that are not unpacked."""
    torch: dict[str, str] = {}
    read: dict[str, set[str]] = {}
    states: list[tuple[str, set[str]]] = []
    last = ""
    for version, names in known.items():
        folder = WORK / "sources" / version
        # The archives of some releases hold no recipe and no requirements (0.15): they are as the one before.
        last = (requirement(folder, torch) or last) if folder.exists() else ""
        if last and last not in read:
            read[last] = names_of_nccl(last)
            print(f"vLLM {version}: {last}, {len(read[last])} variables", flush=True)
        states.append((version, read[last] if last else names))
    found = {
        name: spans([(version, {} if name in names else None) for version, names in states])
        for name in sorted(set().union(*(names for _version, names in states)))
    }
    every = spans([(version, {"by": "torch"}) for version in known])
    return found | {name: every for name in sorted(names_of_torch())}


def main() -> None:
    """Write nccl.json anew, from what is unpacked and from what it says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the catalogue")
    out = parser.parse_args().out
    WHEELS.mkdir(parents=True, exist_ok=True)
    order = list(json.loads((out / "releases.json").read_text(encoding="utf-8")))
    found = section(before(out / "nccl.json", order))
    lines = {
        name: "[\n" + ",\n".join(f"  {json.dumps(span)}" for span in found[name]) + "\n ]" for name in sorted(found)
    }
    replace(out / "nccl.json", lines)
    print(f"{out / 'nccl.json'}: {len(lines)} names")


if __name__ == "__main__":
    main()
