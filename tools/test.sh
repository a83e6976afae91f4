#!/usr/bin/env bash
# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Runs make targets one after the other, goes on after a failure, and ends with a table. What a stage prints goes to
# .build/logs/STAGE.log, its last lines also here if it fails. The table is kept as .build/results/stages.tsv.
# The word `beside` begins another row of stages, which runs at the same time as the rows before it.
#   tools/test.sh STAGE... [beside STAGE...]
set -uo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
LOGS="$ROOT/.build/logs"
RESULTS="$ROOT/.build/results"

[ $# -gt 0 ] || { sed -n '6,10s/^# //p' "${BASH_SOURCE[0]}" >&2; exit 2; }
mkdir -p "$LOGS"
rm -rf "$RESULTS"
mkdir -p "$RESULTS"

# The logs are for reading in a file.
export NO_COLOR=1

# Each line of a row is written in one piece, so that rows do not mix within a line.
run_row() {
    local stage began result
    for stage in "$@"; do
        printf '==> %-18s (log: .build/logs/%s.log)\n' "$stage" "$stage"
        began=$SECONDS
        result=passed
        if ! make -C "$ROOT" --no-print-directory "$stage" >"$LOGS/$stage.log" 2>&1 </dev/null; then
            result=FAILED
            tail -n 40 "$LOGS/$stage.log"
        fi
        printf '%s\t%s\t%s\n' "$stage" "$result" "$((SECONDS - began))" >>"$RESULTS/stages.tsv"
        printf '    %s: %s after %s s\n' "$stage" "$result" "$((SECONDS - began))"
    done
}

started=$SECONDS
stages=0
row=()
for word in "$@" beside; do
    if [ "$word" != beside ]; then
        row+=("$word")
        stages=$((stages + 1))
    elif [ ${#row[@]} -gt 0 ]; then
        run_row "${row[@]}" &
        row=()
    fi
done
wait

printf '\n%-18s %-8s %7s\n' stage result seconds
awk -F'\t' '{printf "%-18s %-8s %7d\n", $1, $2, $3}' "$RESULTS/stages.tsv"
printf '%-18s %-8s %7d\n' all '' "$((SECONDS - started))"
# A stage without a line was never brought to its end.
[ "$(awk -F'\t' '$2 == "passed"' "$RESULTS/stages.tsv" | wc -l)" -eq "$stages" ]
