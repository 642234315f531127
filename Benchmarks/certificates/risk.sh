#!/bin/sh
# Certificates made of one kind of documents, applied to others, with and without their guard and tripwire: for each the
# share sent to full depth, and the loss beyond full depth's, as a Markdown table.
#
#   risk.sh EGRESS OUTPUT EPSILON METRIC KIND=documents.jsonl ... [-- OPTIONS]
#
# Documents have references. Of each kind the first 100 make the guard, the next 100 certify, and the last 40 are what
# the table counts; a kind of fewer than 240 is only looked at. OPTIONS go to calibrate and evaluate, as --model.
set -eu
egress=$1 output=$2 epsilon=$3 metric=$4
shift 4
kinds=
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  kinds="$kinds $1"
  shift
done
[ $# -gt 0 ] && shift
mkdir -p "$output"
for own in $kinds; do
  kind=${own%%=*} file=${own#*=}
  head -n 100 "$file" > "$output/$kind.guard.jsonl"
  head -n 200 "$file" | tail -n 100 > "$output/$kind.cal.jsonl"
  tail -n 40 "$file" > "$output/$kind.test.jsonl"
  [ "$(wc -l < "$file")" -ge 240 ] || continue
  for way in guarded bare; do
    [ ! -e "$output/$kind-$way.certificate.json" ] || continue
    guard=--no-guard
    [ $way = bare ] || guard="--guard-data $output/$kind.guard.jsonl"
    # shellcheck disable=SC2086 # Two words where the guard has data.
    "$egress" calibrate --data "$output/$kind.cal.jsonl" --output "$output/$kind-$way" --metric "$metric" \
      --epsilon "$epsilon" $guard "$@" > "$output/$kind-$way.log" 2>&1 || [ $? -eq 3 ]
  done
done
printf '| certificate of | applied to | outside | loss with guard | loss without |\n|---|---|---|---|---|\n'
for own in $kinds; do
  kind=${own%%=*}
  for other in $kinds; do
    name=${other%%=*}
    row=
    for way in guarded bare; do
      [ -e "$output/$kind-$way.certificate.json" ] || continue
      "$egress" evaluate --certificate "$output/$kind-$way.certificate.json" --data "$output/$name.test.jsonl" \
        --format json "$@" > "$output/$kind-$name-$way.json" 2> "$output/$kind-$name-$way.log" || true
      row="$row $output/$kind-$name-$way.json"
    done
    [ -z "$row" ] || python3 - "$kind" "$name" $row <<'PYTHON'
import json, os, sys
kind, name, *paths = sys.argv[1:]
found = [json.load(open(path)) if os.path.getsize(path) else None for path in paths]
if None in found:
    print(f"| {kind} | {name} | refused | | |")
else:
    losses = [f"{one['test_risk']:.3f} ± {one['test_risk_error']:.3f}" for one in found]
    print(f"| {kind} | {name} | {100 * found[0]['outside_share']:.0f} % |", " | ".join(losses), "|")
PYTHON
  done
done
