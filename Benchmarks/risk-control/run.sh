#!/bin/sh
# Times `egress study` and `egress calibrate` against the plain NumPy and SciPy version.
# Usage: run.sh PATH/TO/egress [PYTHON] [PYTHON_TRIALS]; Python needs numpy and scipy. Works in a folder of its own.
set -eu
egress=$(realpath "$1")
python=${2:-python3}
trials=${3:-10}
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$python" "$here/make_tables.py" large
echo "== study: 100 thresholds x 2,000 samples, three rules, 19 epsilons, 100 trials at n = 1,000"
time "$egress" study study.npy --trials 100 --calibration-size 1000 --epsilons 0.01:0.19:0.01 --rules crc,ucb,ltt > study.txt
grep -E " (0.05|0.1)  " study.txt
echo "== the same in NumPy and SciPy, $trials trials"
"$python" "$here/plain.py" study.npy "$trials"
echo "== calibrate: 100 thresholds x 1,000,000 samples"
"$python" - "$egress" <<'P'
import resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run([sys.argv[1], "calibrate", "large.npy", "--epsilon", "0.05", "-o", "c.json"], check=True)
print(f"{time.perf_counter() - start:.2f} s, {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20:.2f} GiB at most")
P
echo "== the same row by row in NumPy and SciPy"
"$python" - "$here" <<'P'
import sys, time
sys.path.insert(0, sys.argv[1])
import numpy as np
from plain import wsr_upper
start = time.perf_counter()
losses = np.load("large.npy")[:, 1:]
order = np.random.default_rng(0).permutation(losses.shape[1])
last = 0
while last + 1 < len(losses) and wsr_upper(losses[last + 1][order], 0.1) < 0.05:
    last += 1
print(f"index {last}; {time.perf_counter() - start:.2f} s")
P
