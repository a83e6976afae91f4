#!/usr/bin/env bash
# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The demonstration: from nothing to a verified vLLM server on this machine. Called by make, which makes the virtual environment.
#   tools/demo.sh up       engine, model, plan, deployment, one chat completion
#   tools/demo.sh status   how the server is
#   tools/demo.sh clean    remove what `up` made, and nothing else
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
BUILD="$ROOT/.build"
DEMO="$BUILD/demo"
BEFORE="$DEMO/images-before"
PYTHON="$BUILD/venv-demo/bin/python"
INVENTORY="$ROOT/inventories/demo"

export ANSIBLE_COLLECTIONS_PATH="$BUILD/collections" ANSIBLE_HOME="$BUILD/ansible" ANSIBLE_LOCALHOST_WARNING=0
export PYTHONUNBUFFERED=1
# The engine's build needs a python3 with pip, which a fresh Debian does not have; the environment has one.
export PATH="$BUILD/venv-demo/bin:$PATH"

STEPS=5
step() { echo; echo "=== $1/$STEPS $2   ($(printf '%d:%02d' $((SECONDS / 60)) $((SECONDS % 60))) since the start)"; }

playbook() { "$BUILD/venv-demo/bin/ansible-playbook" -i "$INVENTORY" "$@"; }

# The images that engine.sh real makes, by name. Those that are there before the first `up` are not ours to remove.
images() { docker images --filter 'reference=gpufleet-test/base' --filter 'reference=gpufleet-test/vllm-cpu' --format '{{.Repository}}:{{.Tag}}' | sort; }

up() {
    mkdir -p "$DEMO"
    step 1 "A Docker Engine"
    docker info >/dev/null 2>&1 || touch "$DEMO/started-engine"
    "$ROOT/tools/docker_engine.sh" ensure
    step 2 "The engine: an image with vLLM's build for the CPU (a few minutes when it must be built)"
    [ -f "$BEFORE" ] || images >"$BEFORE"
    "$ROOT/tests/engine/engine.sh" real
    step 3 "The model: a tiny Qwen3 with random weights"
    "$ROOT/tests/engine/engine.sh" model "$DEMO/hub"
    step 4 "Inspect, plan, deploy and verify with the collection's playbooks"
    playbook "$ROOT/playbooks/site.yml"
    step 5 "Ask the server"
    "$PYTHON" "$ROOT/tools/ask.py" "http://$(docker port vllm-tiny-0 8000/tcp | head -n 1)" tiny
    echo
    echo "The server goes on running. Again: make demo. Its state: make demo-status"
    echo "Away with it: make demo-clean"
}

clean() {
    [ -d "$DEMO" ] || { echo "demo: there is nothing to remove."; return; }
    if ! docker info >/dev/null 2>&1; then
        echo "demo: no Docker Engine answers, and the server and its image are in it. Start it (tools/docker_engine.sh ensure), then again." >&2
        exit 1
    fi
    playbook "$ROOT/playbooks/teardown.yml"
    if [ -f "$BEFORE" ]; then
        for image in $(images | comm -13 "$BEFORE" -); do
            echo "demo: removing the image $image"
            docker image rm "$image" >/dev/null || echo "demo: $image is in use elsewhere and stays"
        done
    fi
    if [ -f "$DEMO/started-engine" ]; then "$ROOT/tools/docker_engine.sh" stop; fi
    rm -rf "$DEMO"
    echo "demo: removed. The virtual environments and downloads in .build stay for the next time: make clean removes them."
}

case "${1:-}" in
    up) up ;;
    status) playbook "$ROOT/playbooks/status.yml" ;;
    clean) clean ;;
    *) echo "usage: ${0##*/} up|status|clean" >&2; exit 2 ;;
esac
