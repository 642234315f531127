#!/usr/bin/env python3
"""Runs the shards of an egress command as Ray tasks, and merges them.

    shards.py 8 'out.*-of-8.jsonl' summarize --input docs.jsonl --output out.jsonl
    MERGE_OPTIONS='--prices prices.json' shards.py 8 'docs.*-of-8.runs.jsonl' calibrate --data docs.jsonl --epsilon 0.02

Documents and results lie on a file system that all nodes share. EGRESS names the program, and MERGE_OPTIONS are options
of the merge.
"""

import os
import shlex
import subprocess
import sys

import ray

EGRESS = os.environ.get("EGRESS", "egress")
CPUS = int(os.environ.get("EGRESS_CPUS", "1"))


class Again(Exception):
    """The shard may work later: a full disk, a lost node."""


# A task that is lost with its node, or that raises Again, is run again and goes on where it stopped.
@ray.remote(num_cpus=CPUS, max_retries=5, retry_exceptions=[Again])
def shard(index: int, count: int, folder: str, command: list[str]) -> tuple[int, str]:
    done = subprocess.run(
        [EGRESS, *command, "--shard", f"{index}/{count}", "--threads", str(CPUS)],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode in (75, 143) or done.returncode < 0:
        raise Again(done.stderr)
    return done.returncode, done.stderr


def main() -> None:
    count, pattern, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    ray.init()
    results = ray.get([shard.remote(index + 1, count, os.getcwd(), command) for index in range(count)])
    for index, (status, errors) in enumerate(results):
        if status != 0:
            sys.exit(f"shard {index + 1} of {count} ended with {status}: {errors}")
    options = shlex.split(os.environ.get("MERGE_OPTIONS", ""))
    sys.exit(subprocess.run([EGRESS, "merge", pattern, *options], check=False).returncode)


if __name__ == "__main__":
    main()
