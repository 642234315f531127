#!/bin/sh
# Of documents of several kinds, the share that a guard made of one kind lets pass: a Markdown table.
#
#   guard.sh EGRESS OUTPUT KIND=documents.jsonl ...
#
# Files are as calibrate --data takes them. Of each kind the first 100 documents make its guard, the next 40 certify, and
# the last 60 are what the table counts; a file of fewer than 200 documents is only looked at. Outputs are of eight
# tokens: the guard has seen the prompt by then.
set -eu
egress=$1 output=$2
shift 2
mkdir -p "$output"
for own in "$@"; do
  kind=${own%%=*} file=${own#*=}
  head -n 140 "$file" > "$output/$kind.cal.jsonl"
  tail -n 60 "$file" > "$output/$kind.test.jsonl"
  [ "$(wc -l < "$file")" -ge 200 ] && [ ! -e "$output/$kind.certificate.json" ] || continue
  "$egress" calibrate --data "$output/$kind.cal.jsonl" --output "$output/$kind" --guard-documents 100 \
    --metric repetition --epsilon 0.5 --grid 0.9 --max-tokens 8 > "$output/$kind.log" 2>&1 || [ $? -eq 3 ]
done
printf '| guard of |'
for other in "$@"; do printf ' %s |' "${other%%=*}"; done
printf '\n|---|'
for other in "$@"; do printf -- '---|'; done
printf '\n'
for own in "$@"; do
  kind=${own%%=*}
  [ -e "$output/$kind.certificate.json" ] || continue
  printf '| %s |' "$kind"
  for other in "$@"; do
    name=${other%%=*}
    rm -f "$output/$kind-$name.jsonl"
    command=summarize
    head -n 1 "$output/$name.test.jsonl" | grep -q '"question"' && command=answer
    if "$egress" $command --input "$output/$name.test.jsonl" --output "$output/$kind-$name.jsonl" --max-tokens 8 \
      --certificate "$output/$kind.certificate.json" > /dev/null 2> "$output/$kind-$name.log"; then
      inside=$(grep -c '"inside":true' "$output/$kind-$name.jsonl" || true)
      total=$(wc -l < "$output/$kind-$name.jsonl")
      printf ' %s of %s |' "$inside" "$total"
    else
      printf ' refused |'
    fi
  done
  printf '\n'
done
