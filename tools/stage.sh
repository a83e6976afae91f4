#!/usr/bin/env bash
# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Copies the collection (what git tracks, and what it would) to DEST/ansible_collections/gpufleet/vllm, if anything
# changed since the last copy. A real copy, because ansible-test refuses a collection behind a symlink.
#   tools/stage.sh DEST
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
[ $# -eq 1 ] || { sed -n '6,8s/^# //p' "${BASH_SOURCE[0]}" >&2; exit 2; }
mkdir -p "$1"
DEST="$(cd "$1" && pwd)"
TREE="$DEST/ansible_collections/gpufleet/vllm"

cd "$ROOT"
archive="$DEST/.stage.tar"
# Files that are deleted but still tracked are listed too: only those that exist are packed.
git ls-files -z --cached --others --exclude-standard | sort -zu |
    while IFS= read -r -d '' file; do if [ -e "$file" ]; then printf '%s\0' "$file"; fi; done |
    tar --create --null --files-from=- --mtime=@0 --owner=0 --group=0 --numeric-owner --file="$archive"
digest="$(sha256sum <"$archive")"
if [ "$(cat "$DEST/.stage.sha256" 2>/dev/null)" != "$digest" ]; then
    rm -rf "$TREE"
    mkdir -p "$TREE"
    # ansible-test asks git which files there are; without a repository here it would ask the one around DEST, if any.
    git init --quiet "$TREE"
    tar --extract --touch --directory="$TREE" --file="$archive"
    echo "$digest" >"$DEST/.stage.sha256"
fi
rm -f "$archive"
