#!/usr/bin/env bash
# Sends an array of shards, and a merge after it that begins when all of them are done.
#   submit.sh SHARDS PATTERN COMMAND…
#   submit.sh 8 'out.*-of-8.jsonl' summarize --input docs.jsonl --output out.jsonl
#   MERGE_OPTIONS='--prices prices.json' submit.sh 8 'docs.*-of-8.runs.jsonl' calibrate --data docs.jsonl --epsilon 0.02
# MERGE_OPTIONS are options of the merge; prices.json may be made while the shards run, by egress bench --prices.
# Options of sbatch come from the environment: SBATCH_PARTITION, SBATCH_TIMELIMIT and so on.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
shards=$1
pattern=$2
shift 2
array=$(sbatch --parsable --array="1-$shards" "$here/shard.sbatch" "$shards" "$@")
merge=$(sbatch --parsable --dependency="afterok:$array" --kill-on-invalid-dep=yes --job-name=egress-merge \
  --output="egress-merge-%j.log" --wrap="exec '${EGRESS:-egress}' merge '$pattern' ${MERGE_OPTIONS:-}")
echo "array $array, merge $merge"
