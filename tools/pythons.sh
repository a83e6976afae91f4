#!/usr/bin/env bash
# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Finds Python interpreters that really run: on the PATH (where a version manager's stub may not), then in pyenv's
# folder, then among those that uv brought to .build/uv-python.
#   tools/pythons.sh find VERSION...   path of the first of these versions, e.g. 3.13 3.12; brings one with uv if none is here
#   tools/pythons.sh link DIR          fills DIR with links pythonX.Y to every version that ansible-test may ask for
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
UV_PYTHONS="$ROOT/.build/uv-python"
SANITY_VERSIONS="3.8 3.9 3.10 3.11 3.12 3.13 3.14"

say() { echo "pythons: $*" >&2; }

# The real path of the interpreter $1 if it runs and is version $2, else status 1.
real_path() {
    "$1" -c 'import os, sys
if "%d.%d" % sys.version_info[:2] != sys.argv[1]: sys.exit(1)
print(os.path.realpath(sys.executable))' "$2" 2>/dev/null
}

find_version() {
    local version="$1" candidate
    for candidate in $(type -aP "python$version" || true) \
        $(printf '%s\n' "$HOME/.pyenv/versions/$version".*/bin/"python$version" \
            "$UV_PYTHONS/cpython-$version".*/bin/"python$version" | sort -rV); do
        if [ -x "$candidate" ] && real_path "$candidate" "$version"; then return 0; fi
    done
    return 1
}

bring_with_uv() {
    local version="$1" venv="$ROOT/.build/venv-uv" base
    base="$(type -P python3)" || return 1
    say "no Python $version here: trying uv's build of it"
    mkdir -p "$ROOT/.build/logs"
    { "$base" -m venv "$venv" &&
        "$venv/bin/pip" install -q -r "$ROOT/requirements/uv.txt" &&
        "$venv/bin/uv" python install --install-dir "$UV_PYTHONS" --no-bin "$version"
    } >"$ROOT/.build/logs/uv-python.log" 2>&1 || { tail -n 3 "$ROOT/.build/logs/uv-python.log" >&2; return 1; }
}

case "${1:-}" in
find)
    shift
    for version in "$@"; do
        if find_version "$version"; then exit 0; fi
    done
    if bring_with_uv "$1" && find_version "$1"; then exit 0; fi
    say "needs one of Python $*, and none is on the PATH, in ~/.pyenv/versions or to be had through uv." \
        "Install python$1 (with its venv module) from your distribution, or with pyenv, and run this again."
    exit 1
    ;;
link)
    rm -rf "$2"
    mkdir -p "$2"
    for version in $SANITY_VERSIONS; do
        if path="$(find_version "$version")"; then ln -s "$path" "$2/python$version"; fi
    done
    ;;
*)
    sed -n '6,9s/^# //p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
