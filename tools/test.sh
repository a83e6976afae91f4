#!/usr/bin/env bash
# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Runs make targets one after the other, goes on after a failure, and ends with a table. What a stage prints goes to
# .build/logs/STAGE.log, its last lines also here if it fails. The table is kept as .build/results/stages.tsv.
#   tools/test.sh STAGE...
set -uo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
LOGS="$ROOT/.build/logs"
RESULTS="$ROOT/.build/results"

[ $# -gt 0 ] || { sed -n '6,9s/^# //p' "${BASH_SOURCE[0]}" >&2; exit 2; }
mkdir -p "$LOGS"
rm -rf "$RESULTS"
mkdir -p "$RESULTS"

# The logs are for reading in a file.
export NO_COLOR=1
failed=0
for stage in "$@"; do
    printf '==> %-18s (log: .build/logs/%s.log)\n' "$stage" "$stage"
    started=$SECONDS
    result=passed
    if ! make -C "$ROOT" --no-print-directory "$stage" >"$LOGS/$stage.log" 2>&1 </dev/null; then
        result=FAILED
        failed=$((failed + 1))
        tail -n 40 "$LOGS/$stage.log"
    fi
    printf '%s\t%s\t%s\n' "$stage" "$result" "$((SECONDS - started))" | tee -a "$RESULTS/stages.tsv" |
        awk -F'\t' '{printf "    %s after %s s\n", $2, $3}'
done

printf '\n%-18s %-8s %7s\n' stage result seconds
awk -F'\t' '{printf "%-18s %-8s %7d\n", $1, $2, $3; sum += $3} END {printf "%-18s %-8s %7d\n", "all", "", sum}' "$RESULTS/stages.tsv"
[ "$failed" -eq 0 ]
