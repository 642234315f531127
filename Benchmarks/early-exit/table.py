#!/usr/bin/env python3
"""Makes the table of confidence measure x rule x epsilon: calibrate on one half of the documents, test on the other.

    python3 Benchmarks/early-exit/table.py --data docs.jsonl --metric rouge-l --n 100 --output out/abstracts \
        --exit-layers 21,24,27 --exit-heads heads.safetensors

Needs a built `egress` (make build) and a machine that does nothing else, for it reads the clock. Documents are shuffled by a seed,
whole groups (field "group") staying on one side. All runs are kept beside --output, so that a second call goes on where
the first one ended; only the clock is read anew.

Writes OUTPUT.md (the table), OUTPUT.json (its numbers) and OUTPUT.MEASURE.svg (test risk and megabytes a token over epsilon, of
100 random splits).
"""

import argparse
import json
import os
import random
import subprocess
import sys

RULES = {"empirical": "empirical", "crc": "crc", "ucb": "ucb/wsr", "ltt": "ltt/hb"}
EPSILONS = [0.01, 0.02, 0.05, 0.1]
DELTA = 0.1


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="JSON Lines with document, references and perhaps question and group")
    parser.add_argument("--metric", default="rouge-l")
    parser.add_argument("--risk", default="gap", choices=["gap", "consistency"])
    parser.add_argument("--n", type=int, default=100, help="documents of each half")
    parser.add_argument("--output", required=True, help="what the names of all files begin with")
    parser.add_argument("--measures", default="softmax,saturation,classifier")
    parser.add_argument("--exit-layers", help="as for egress; by default those of the heads")
    parser.add_argument("--exit-heads", help="as for egress; the classifier needs them")
    parser.add_argument("--lowest", default="0.3", help="no threshold below this is tried")
    parser.add_argument("--model")
    parser.add_argument("--threads")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--egress", default=".build/release/egress")
    return parser.parse_args()


def split(path, count, seed, output):
    """Writes the calibration half, then the test half, into one file: the first `count` documents calibrate."""
    groups = {}
    for number, line in enumerate(open(path, encoding="utf-8")):
        record = json.loads(line)
        record.setdefault("id", number)
        groups.setdefault(record.get("group", f"document {number}"), []).append(record)
    names = sorted(groups)
    random.Random(seed).shuffle(names)
    halves = ([], [])
    for name in names:
        halves[len(halves[0]) >= count].extend(groups[name])
    if len(halves[1]) < count:
        sys.exit(f"{path} has too few documents for two halves of {count}, groups kept whole")
    with open(output, "w", encoding="utf-8") as file:
        for record in halves[0][:count] + halves[1][:count]:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


class Egress:
    def __init__(self, arguments):
        self.program = arguments.egress
        self.common = []
        for name in ("model", "threads"):
            if getattr(arguments, name):
                self.common += ["--" + name, getattr(arguments, name)]

    def run(self, *command, model=True, allowed=(0,)):
        line = [self.program, *command, *(self.common if model else [])]
        print("$", " ".join(line), file=sys.stderr, flush=True)
        result = subprocess.run(line, stdout=subprocess.PIPE, text=True)
        if result.returncode not in allowed:
            sys.exit(f"{command[0]} ended with {result.returncode}")
        return result.stdout


def main():
    arguments = read_arguments()
    egress = Egress(arguments)
    stem, count = arguments.output, arguments.n
    os.makedirs(os.path.dirname(stem) or ".", exist_ok=True)
    data = stem + ".documents.jsonl"
    split(arguments.data, count, arguments.seed, data)
    rows = []
    for measure in arguments.measures.split(","):
        heads = ["--exit-heads", arguments.exit_heads] if arguments.exit_heads else []
        policy = ["--confidence", measure, *heads]
        if arguments.exit_layers:
            policy += ["--exit-layers", arguments.exit_layers]
        name = f"{stem}.{measure}"
        loss = ["--data", data, "--metric", arguments.metric, "--risk", arguments.risk, "--lowest", arguments.lowest,
                "--output", name, *policy]
        # The runs of all documents, and with them the table that the study takes its random splits from.
        egress.run("calibrate", *loss, "--epsilon", "0.5", "--certificate", f"{name}.all.json", "--force", allowed=(0, 2, 3))
        study = json.loads(egress.run(
            "study", f"{name}.losses.jsonl", "--trials", "100", "--calibration-size", str(count), "--delta", str(DELTA),
            "--epsilons", ",".join(map(str, EPSILONS)), "--rules", ",".join(RULES.values()), "--format", "json",
            "--figure", f"{name}.svg", model=False))
        violations = {(cell["rule"], cell["epsilon"]): cell["violation_rate"] for cell in study["measurements"]}
        measured = {}
        for rule in RULES:
            bound = ["--bound", "hb"] if rule == "ltt" else []
            text = egress.run(
                "calibrate", *loss, "--limit", str(count), "--rule", rule, *bound, "--delta", str(DELTA), "--epsilon",
                ",".join(map(str, EPSILONS)), "--certificate", f"{name}.{rule}.json", "--force", "--format", "json",
                allowed=(0, 2, 3))
            for certificate in json.loads(text):
                epsilon, threshold = certificate["epsilon"], certificate["threshold"]
                pays = certificate["outcome"] == "certified" and certificate["cost"] < certificate["safest_cost"]
                if pays and threshold not in measured:
                    measured[threshold] = json.loads(egress.run(
                        "evaluate", "--certificate", f"{name}.{rule}.epsilon-{epsilon}.json", *heads, "--data", data,
                        "--skip", str(count), "--metric", arguments.metric, "--risk", arguments.risk, "--format", "json"))
                rows.append({
                    "measure": measure, "rule": rule, "epsilon": epsilon, "outcome": certificate["outcome"],
                    "threshold": threshold, "pays": pays, "violations": violations.get((rule, epsilon)),
                    "test": measured.get(threshold) if pays else None})
    with open(stem + ".json", "w", encoding="utf-8") as file:
        json.dump({"n": count, "metric": arguments.metric, "risk": arguments.risk, "delta": DELTA, "rows": rows}, file, indent=1)
    with open(stem + ".md", "w", encoding="utf-8") as file:
        file.write(table(rows, arguments))
    print(table(rows, arguments))


def table(rows, arguments):
    lines = [
        f"{arguments.metric}, {arguments.risk}; n = {arguments.n} documents to calibrate, {arguments.n} others to test; delta = {DELTA}. "
        "Violations: share of 100 random splits whose test risk is above epsilon. Ratio: time of a token, full depth = 1. "
        "Where exits do not pay or none is certified, tokens pass all layers.",
        "",
        "| measure | rule | ε | λ | test risk | average layer | MB a token | ms a token | ratio | violations |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        test = row["test"]
        if test:
            exits, full = test["exits"], test["full"]
            mark = "" if test["test_risk"] <= row["epsilon"] else " (!)"
            cells = [
                f"{row['threshold']:.4f}", f"{test['test_risk']:.4f}{mark}", f"{exits['average_layer']:.1f} of {test['layers']}",
                f"{exits['bytes_per_token'] / 1e6:.1f} / {full['bytes_per_token'] / 1e6:.1f}",
                f"{exits['milliseconds_per_token']:.2f} / {full['milliseconds_per_token']:.2f}", f"{test['time_ratio']:.3f}"]
        else:
            why = "does not pay" if row["outcome"] == "certified" else row["outcome"].replace("_", " ")
            cells = [f"1 ({why})", "0", "all", "", "", "1"]
        rate = "" if row["violations"] is None else f"{100 * row['violations']:.0f} %"
        lines.append("| " + " | ".join([row["measure"], row["rule"], str(row["epsilon"]), *cells, rate]) + " |")
    return "\n".join(lines) + "\n"


main()
