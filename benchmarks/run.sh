#!/usr/bin/env bash
# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Measures what README.md beside this file tells of. Called by make bench; needs a quiet machine.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
BUILD="$ROOT/.build"
PEERS="$BUILD/peers"
# The distribution that carries community.docker for ansible-core 2.20.
ANSIBLE="ansible==13.8.0"

"$ROOT/tools/venvs.sh" core-2.20
"$ROOT/tools/docker_engine.sh" ensure
if [ ! -d "$PEERS/ansible_collections/community/docker" ]; then
    echo "bench: fetching community.docker, which $ANSIBLE carries"
    rm -rf "$PEERS" && mkdir -p "$PEERS"
    "$BUILD/venv-core-2.20/bin/python" -m pip download --quiet --no-deps --dest "$PEERS" "$ANSIBLE"
    "$BUILD/venv-core-2.20/bin/python" - "$PEERS" <<'PY'
import pathlib, sys, zipfile

folder = pathlib.Path(sys.argv[1])
wheel = next(folder.glob("ansible-*.whl"))
wanted = ("ansible_collections/community/docker/", "ansible_collections/community/library_inventory_filtering_v1/")
with zipfile.ZipFile(wheel) as archive:
    archive.extractall(folder, [name for name in archive.namelist() if name.startswith(wanted)])
wheel.unlink()
PY
fi
PYTHONPATH="$ROOT/tests" "$BUILD/venv-core-2.20/bin/python" "$ROOT/benchmarks/no_change.py" "$PEERS"
echo
PYTHONPATH="$BUILD/collections" "$BUILD/venv-core-2.20/bin/python" "$ROOT/benchmarks/validation.py"
echo
PYTHONPATH="$BUILD/collections" "$BUILD/venv-core-2.20/bin/python" "$ROOT/benchmarks/memory_fit.py"
echo
"$ROOT/tools/venvs.sh" core-2.21
PYTHONPATH="$BUILD/collections:$ROOT/tests" "$BUILD/venv-core-2.21/bin/python" "$ROOT/benchmarks/checkpoint_facts.py"
echo
PYTHONPATH="$BUILD/collections:$ROOT/tests" "$BUILD/venv-core-2.21/bin/python" "$ROOT/benchmarks/hub_download.py"
echo
PYTHONPATH="$BUILD/collections:$ROOT/tests" "$BUILD/venv-core-2.21/bin/python" "$ROOT/benchmarks/bundle.py"
echo
PYTHONPATH="$BUILD/collections:$ROOT/tests" "$BUILD/venv-core-2.21/bin/python" "$ROOT/benchmarks/fan_out.py"
echo
PATH="$BUILD/venv-core-2.21/bin:$PATH" "$ROOT/tests/engine/engine.sh" stand-in >/dev/null
PYTHONPATH="$BUILD/collections:$ROOT/tests/integration/library:$ROOT/tests" "$BUILD/venv-core-2.21/bin/python" "$ROOT/benchmarks/start_watch.py"
