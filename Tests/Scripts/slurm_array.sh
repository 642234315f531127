#!/usr/bin/env bash
# An array of four shards on a Slurm of two nodes, for real: while it runs, one task's program is killed with -9, one
# node is drained, and the task on that node is sent to the queue again. Then the merge, which waited for all of them,
# has to be the run on one machine, byte for byte.
#   slurm_array.sh [egress]
# Needs root and slurmctld, slurmd and sbatch (Debian: slurmctld slurmd slurm-client). The cluster is its own:
# everything lies in a temporary folder, listens on 127.0.0.1, and is ended at the end. SHARDS_MODEL names another
# model, SHARDS_DOCUMENTS another number of documents than 480.
set -euo pipefail
egress=$(realpath "${1:-.build/release/egress}")
deploy=$(realpath "$(dirname "$0")/../../deploy/slurm")
folder=$(mktemp -d)
pids=()
finish() {
  scancel --quiet --user=root 2> /dev/null || true
  for _ in $(seq 50); do [ -z "$(squeue --noheader 2> /dev/null)" ] && break || sleep 0.2; done
  for pid in "${pids[@]}"; do kill "$pid" 2> /dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2> /dev/null || true; done
  cd /
  [ -n "${KEEP:-}" ] || rm -rf "$folder"
}
trap finish EXIT
cd "$folder"
host=$(hostname -s)
cat > slurm.conf << CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=17100
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
MinJobAge=3600
PlugStackConfig=$folder/none.conf
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool.%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.%n.pid
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=17101 CPUs=1
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=17102 CPUs=1
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
CONF
touch none.conf
mkdir state spool.n1 spool.n2
export SLURM_CONF=$folder/slurm.conf
slurmctld -D > slurmctld.log 2>&1 & pids+=($!)
for node in n1 n2; do slurmd -D -N "$node" > "slurmd.$node.log" 2>&1 & pids+=($!); done
until_true() { # until_true SECONDS WHAT COMMAND…
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" > /dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || { echo "$what: not within its time" >&2; squeue >&2 || true; tail -n 5 ./*.log >&2; exit 1; }
    sleep 0.2
  done
}
idle() { [ "$(sinfo --noheader --format=%D --states=idle | paste -sd+ | bc)" = 2 ]; }
until_true 60 'the two nodes' idle

python3 - > docs.jsonl << 'PYTHON'
import json, os
for i in range(int(os.environ.get("SHARDS_DOCUMENTS", 480))):
    words = " ".join(str((i * 7919 + j * 104729) % 9973) for j in range(12))
    print(json.dumps({"id": f"d{i}", "document": f"A library that reads {words} and writes what it has read."}))
PYTHON
options=(summarize --model "${SHARDS_MODEL:-debian-synopsis-small}" --max-tokens 40 --input docs.jsonl)
"$egress" "${options[@]}" --threads 1 --output whole.jsonl

sent=$(EGRESS=$egress "$deploy/submit.sh" 4 'out.*-of-4.jsonl' "${options[@]}" --output out.jsonl)
array=$(sed 's/array \([0-9]*\),.*/\1/' <<< "$sent")
merge=$(sed 's/.*merge \([0-9]*\)/\1/' <<< "$sent")
echo "$sent"
lines() { wc -l 2> /dev/null < "out.$1-of-4.jsonl.partial" || echo 0; }
begun() { [ "$(lines "$1")" -ge 4 ]; }
field() { scontrol show job "$1" | sed -n "s/.*\b$2=\([^ ]*\).*/\1/p" | head -n 1; }
until_true 120 'the first two tasks' eval 'begun 1 && begun 2'
drained=$(field "${array}_2" NodeList)
echo "task 1 is on $(field "${array}_1" NodeList), task 2 on $drained"

# One program killed: its script sees 137 and puts the task into the queue again.
killed=
for pid in $(pgrep --full "^$egress .*--output out.jsonl --shard auto"); do
  if grep --quiet --null-data --line-regexp SLURM_ARRAY_TASK_ID=1 "/proc/$pid/environ"; then
    kill -9 "$pid" && killed=$pid
  fi
done
[ -n "$killed" ] || { echo "task 1 has no program to kill" >&2; exit 1; }
# One node drained: its task goes on, but nothing else begins there. Whoever wants the node now sends the task away.
scontrol update NodeName="$drained" State=DRAIN Reason=test
before=$(lines 2)
scontrol requeue "${array}_2"
echo "$drained is $(sinfo --noheader --nodes="$drained" --format=%T); task 2 was sent away with $before lines"

# A task that is queued again may begin after two minutes: here it need not wait.
hurry() {
  for task in 1 2 3 4; do scontrol update JobId="${array}_$task" StartTime=now || true; done
  [ "$(field "$merge" JobState)" = COMPLETED ]
}
until_true 900 'the merge' hurry
for task in 1 2 3 4; do
  echo "task $task: $(field "${array}_$task" JobState) on $(field "${array}_$task" NodeList), restarts $(field "${array}_$task" Restarts)"
done
[ "$(field "${array}_2" NodeList)" != "$drained" ] || { echo "task 2 ran on the drained node" >&2; exit 1; }
restarts=$(($(field "${array}_1" Restarts) + $(field "${array}_2" Restarts)))
[ "$restarts" -ge 2 ] || { echo "only $restarts restarts" >&2; exit 1; }
grep --quiet 'results already' "egress-${array}_2.log" || { echo "task 2 began anew" >&2; exit 1; }
cmp out.jsonl whole.jsonl
echo "the merged shards are the run on one machine: $(wc -l < out.jsonl) documents, $(sha256sum < out.jsonl | cut -c 1-16)"
