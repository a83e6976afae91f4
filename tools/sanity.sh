#!/usr/bin/env bash
# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Runs `ansible-test sanity` of one ansible-core on a staged copy, with `import` and `compile` on every Python that is
# here. The results go to .build/results/sanity-CORE as JUnit files.
#   tools/sanity.sh CORE [ansible-test options, e.g. --test validate-modules]
#   tools/sanity.sh prepare    installs the one tool that ansible-test does not bring, and runs nothing
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
BUILD="$ROOT/.build"
CORE="${1:-}"
# The pip that each ansible-test brings into the environments of its tests (ansible_test/_internal/python_requirements.py).
case "$CORE" in
2.19) PIP=24.2 ;;
2.20 | 2.21) PIP=25.2 ;;
prepare) ;;
*) sed -n '6,10s/^# //p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
shift

VENV="$BUILD/venv-core-$CORE"
HOME_DIR="$BUILD/sanity-home"
CACHE="$HOME_DIR/.ansible/test/cache"
RESULTS="$BUILD/results/sanity-$CORE"

# The sanity test shellcheck needs the only tool that ansible-test does not bring itself.
if ! command -v shellcheck >/dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "sanity: shellcheck is missing: install the package shellcheck (sudo apt-get install shellcheck)." >&2
        exit 1
    fi
    echo "sanity: installing shellcheck with apt-get"
    mkdir -p "$BUILD/logs"
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends shellcheck; } \
        </dev/null >"$BUILD/logs/shellcheck-install.log" 2>&1 ||
        { tail -n 5 "$BUILD/logs/shellcheck-install.log" >&2; exit 1; }
fi
if [ "$CORE" = prepare ]; then exit 0; fi

"$ROOT/tools/venvs.sh" "core-$CORE"
"$ROOT/tools/stage.sh" "$BUILD/stage"
"$ROOT/tools/pythons.sh" link "$BUILD/pythons"

# ansible-test keeps its environments below HOME, so it gets one of its own, with the user's pip settings and cache.
mkdir -p "$CACHE" "$HOME_DIR/.config" "$HOME_DIR/.cache"
for path in .pip .config/pip .cache/pip; do
    if [ -e "$HOME/$path" ]; then ln -sfn "$HOME/$path" "$HOME_DIR/$path"; fi
done

# ansible-test would download its pip from a server of its own project. The same pip from the package index works where
# that server cannot be reached: this script stands where the downloaded one would be kept.
if ! ls "$CACHE/pip-$PIP-"*.whl >/dev/null 2>&1; then
    "$VENV/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$CACHE" "pip==$PIP"
fi
cat >"$CACHE/get_pip_${PIP//./_}.py" <<PY
import os, runpy, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.environ["GET_PIP"]), "pip-$PIP-py3-none-any.whl"))
options = [option for option in sys.argv[1:] if option not in ("--no-setuptools", "--no-wheel")]
sys.argv = ["pip", "install", "--upgrade", "--force-reinstall"] + options
runpy.run_module("pip", run_name="__main__", alter_sys=True)
PY

TREE="$BUILD/stage/ansible_collections/gpufleet/vllm"
rm -rf "$RESULTS" "$TREE/tests/output"
cd "$TREE"
status=0
HOME="$HOME_DIR" PATH="$VENV/bin:$BUILD/pythons:/usr/local/bin:/usr/bin:/bin" \
    "$VENV/bin/ansible-test" sanity --local --color no --junit "$@" || status=$?
if [ -d tests/output/junit ]; then
    mkdir -p "$BUILD/results"
    cp -r tests/output/junit "$RESULTS"
fi
exit "$status"
