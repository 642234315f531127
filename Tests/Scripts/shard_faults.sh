#!/usr/bin/env bash
# What faults do to shards, for real: each line is a fault, the status it ended with, and whether the merged shards are
# then, byte for byte, the run on one machine. Fails at the first that are not.
#   shard_faults.sh [egress]
# The full disk needs root, for a small tmpfs; without it that line is left out.
set -euo pipefail
egress=$(realpath "${1:-.build/release/egress}")
folder=$(mktemp -d)
trap 'cd /; umount "$folder/disk" 2> /dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
python3 - > docs.jsonl << 'PYTHON'
import json
for i in range(600):
    words = " ".join(str((i * 7919 + j * 104729) % 9973) for j in range(12))
    print(json.dumps({"id": f"d{i}", "document": f"A library that reads {words} and writes what it has read."}))
PYTHON

options=(summarize --model debian-synopsis-small --max-tokens 40 --input docs.jsonl --threads 1)
run() { "$egress" "${options[@]}" --output out.jsonl --shard "$1/2" 2>> log; }
"$egress" "${options[@]}" --output whole.jsonl
run 2

say() { printf '%-34s %-8s %s\n' "$1" "$2" "$3"; }
# Ends a run of shard 1 by a signal in its middle.
interrupted() {
  rm -f out.1-of-2.jsonl*
  run 1 & local pid=$!
  local child
  for _ in $(seq 2000); do
    [ "$(cat out.1-of-2.jsonl.partial 2> /dev/null | wc -l)" -ge 5 ] && break
    sleep 0.01
  done
  child=$(pgrep -P "$pid" || echo "$pid")
  local begin=$(date +%s%N)
  kill "-$1" $child
  status=0
  wait "$pid" || status=$?
  took=$((($(date +%s%N) - begin) / 1000000))
  lines=$(wc -l < out.1-of-2.jsonl.partial)
  [ ! -e out.1-of-2.jsonl ]
}
# Runs what is missing and compares.
whole() {
  run 1
  rm -f out.jsonl
  "$egress" merge 'out.*-of-2.jsonl' 2>> log
  cmp -s out.jsonl whole.jsonl || { echo "$1: the merged shards differ" >&2; exit 1; }
}
refused() {
  status=0
  "$egress" merge "${@:3}" --output merged.jsonl 2> message || status=$?
  [ "$status" = "$2" ] && [ ! -e merged.jsonl ] || { echo "$1: ended with $status" >&2; exit 1; }
  say "$1" "$status" "$(cut -c 9- message)"
}

say fault status outcome
interrupted KILL; whole 'kill -9'; say 'kill -9' "$status" "went on after $lines lines; equal"
interrupted TERM; whole SIGTERM; say SIGTERM "$status" "ended after $took ms, went on after $lines lines; equal"
interrupted INT; whole SIGINT; say SIGINT "$status" "went on after $lines lines; equal"
interrupted KILL; printf '{"id":"d1","text":"ha' >> out.1-of-2.jsonl.partial; whole 'half a line'
say 'half a line' - 'cut off; equal'
interrupted KILL; touch -d '2001-01-01' out.1-of-2.jsonl.partial docs.jsonl
whole 'old files'; say 'files of the year 2001' - 'times are not looked at; equal'
# Debian's faketime; without it these lines are left out.
if command -v faketime > /dev/null; then
  for jump in '2001-01-01' '2099-01-01'; do
    interrupted KILL
    FAKETIME_DONT_FAKE_MONOTONIC=1 faketime "$jump" "$egress" "${options[@]}" --output out.jsonl --shard 1/2 2>> log
    whole 'clock jump'; say "clock jumps to $jump" - 'equal'
  done
fi

rm -f out.1-of-2.jsonl*
run 1 & first=$!
second=0
for _ in $(seq 2000); do [ -s out.1-of-2.jsonl.partial ] && break; sleep 0.01; done
run 1 || second=$?
wait "$first"
[ "$second" = 75 ] || [ "$second" = 0 ] || { echo "two at once: ended with $second" >&2; exit 1; }
whole 'two at once'; say 'one shard by two processes' "$second" 'the other did it alone; equal'

if [ "$(id -u)" = 0 ] && mkdir disk && mount -t tmpfs -o size=64k tmpfs disk 2> /dev/null; then
  status=0
  "$egress" "${options[@]}" --output disk/out.jsonl --shard 1/2 2>> log || status=$?
  [ "$status" = 75 ] || { echo "full disk: ended with $status" >&2; exit 1; }
  lines=$(wc -l < disk/out.1-of-2.jsonl.partial)
  mount -o remount,size=4m disk
  "$egress" "${options[@]}" --output disk/out.jsonl --shard 1/2 2>> log
  cmp -s disk/out.1-of-2.jsonl <(sed 's|"out.jsonl"|"disk/out.jsonl"|g' out.1-of-2.jsonl) \
    || { echo "full disk: the shard differs" >&2; exit 1; }
  say 'full disk' "$status" "went on after $lines lines once there was room; equal"
fi

cp out.1-of-2.jsonl again.jsonl
head -c -20 out.1-of-2.jsonl > cut.jsonl
refused 'a shard twice' 65 out.1-of-2.jsonl out.2-of-2.jsonl again.jsonl
refused 'a shard lost' 75 out.1-of-2.jsonl
refused 'a shard cut short' 75 cut.jsonl out.2-of-2.jsonl
