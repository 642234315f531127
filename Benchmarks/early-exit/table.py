#!/usr/bin/env python3
"""Makes the tables and figures of early exit: confidence measure x rule x epsilon x n, for summaries and answers.

    python3 Benchmarks/early-exit/table.py --summaries abstracts.jsonl --answers questions.jsonl --output out

Needs a built `egress` (make build). Everything is kept in the folder --output, so that a second call goes on where the
first one ended, and a phase whose files were removed is run again:

  losses  runs the model on all documents at every threshold, a file of runs a task and measure; other work may go on beside it
  rules   calibrates on one half of the documents and tests on the other, and again on 100 random splits; no model is run
  clock   decodes held-out documents at full depth and with exits by turns: wants a machine that does nothing else
  tables  writes tables.md, tables.json and the figures

Documents are objects a line with `document`, `references`, perhaps `question`, and perhaps `group`: documents of one
group stay on one side of every split. Lines of --exclude (the field `id` decides) are left out."""

import argparse
import bisect
import concurrent.futures
import json
import os
import random
import sys
import tempfile
from pathlib import Path

import pages

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "Scripts"))
from egress_tools import read_lines, run_egress, write_json

MEASURES = ["softmax", "saturation", "classifier"]
# The bound of each rule. LTT is that of the published comparison: Hoeffding-Bentkus, negative losses counted as 0.
RULES = {"crc": "wsr", "ucb": "wsr", "ltt": "hb"}
EPSILONS = [0.01, 0.02, 0.05, 0.1]
SIZES = [100, 300]
DELTA = 0.1
SPLITS = 100
# Exit layers, and the thresholds to try, chosen on other documents than these. One grid, because saturation changes an
# output of summaries at four times as many thresholds as the others do.
POLICIES = {
    "summaries": {
        "softmax": ("24,30", "--lowest", "0.05"),
        "saturation": ("24,30", "--grid", "0.98,0.96,0.94,0.92,0.91,0.9,0.89,0.88,0.87,0.86,0.85,0.84,0.83,0.82"),
        "classifier": ("24,30", "--lowest", "0.45"),
    },
    "answers": {
        "softmax": ("24,30", "--lowest", "0.05"),
        "saturation": ("24,30", "--lowest", "0.75"),
        "classifier": ("24,30", "--lowest", "0.3"),
    },
}
# Those of models that were trained on for early exits.
TRAINED = {
    "smollm2-135m-instruct-exit": {
        task: {
            "softmax": ("20,24,30", "--grid", "0.9,0.7,0.5,0.4,0.3,0.2,0.1,0.05,0.02"),
            "saturation": ("20,24,30", "--grid", "0.98,0.96,0.94,0.92,0.9,0.88,0.86,0.84,0.82"),
            "classifier": ("20,24,30", "--grid", "0.95,0.9,0.8,0.7,0.6,0.5,0.4,0.3,0.1"),
        }
        for task in POLICIES
    },
}
METRICS = {"summaries": "rouge-l", "answers": "token-f1"}


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--summaries", help="JSON Lines of documents to summarise")
    parser.add_argument("--answers", help="JSON Lines of documents with questions")
    parser.add_argument("--exclude", help="JSON Lines of documents to leave out")
    parser.add_argument("--output", required=True, help="folder of everything")
    parser.add_argument("--phases", default="losses,rules,clock,tables")
    parser.add_argument("--figures", help="folder of the figures (default: --output)")
    parser.add_argument("--exit-heads", help="as for egress; by default those that come with the program")
    parser.add_argument("--model")
    parser.add_argument("--threads")
    parser.add_argument(
        "--test", type=int, help="documents to test on, beside those to calibrate on (default: all others)"
    )
    parser.add_argument("--clock-documents", type=int, default=40)
    parser.add_argument("--clock-runs", type=int, default=28, help="thresholds to put on the clock, at most")
    parser.add_argument("--egress", default=".build/release/egress")
    return parser.parse_args()


def halves(groups, seed):
    """The places of the documents in two halves, each in random order; whole groups stay on one side."""
    names = sorted(set(groups))
    chance = random.Random(seed)
    chance.shuffle(names)
    first, half = set(), max(SIZES)
    while sum(group in first for group in groups) < half and names:
        first.add(names.pop())
    sides = [[place for place, group in enumerate(groups) if (group in first) == side] for side in (True, False)]
    for side in sides:
        chance.shuffle(side)
    return sides


class Work:
    def __init__(self, arguments):
        self.arguments = arguments
        self.policies = TRAINED.get(arguments.model, POLICIES)
        self.tasks = [task for task in METRICS if getattr(arguments, task)]
        self.common = []
        for name in ("model", "threads"):
            if getattr(arguments, name):
                self.common += ["--" + name, getattr(arguments, name)]
        self.heads = ["--exit-heads", arguments.exit_heads] if arguments.exit_heads else []
        os.makedirs(arguments.output, exist_ok=True)

    def path(self, *parts):
        return os.path.join(self.arguments.output, ".".join(parts))

    def egress(self, *command, model=True, allowed=(0,), quiet=False):
        return run_egress(self.arguments.egress, [*command, *(self.common if model else [])], allowed, quiet)

    def documents(self, task):
        """A file of the documents in the order of the split that the tables are of: those to calibrate on come
        first."""
        path = self.path(task, "documents.jsonl")
        if not os.path.exists(path):
            excluded = {line["id"] for line in read_lines(self.arguments.exclude)} if self.arguments.exclude else set()
            lines = [line for line in read_lines(getattr(self.arguments, task)) if line.get("id") not in excluded]
            for place, line in enumerate(lines):
                line.setdefault("id", place)
            sides = halves([str(line.get("group", line["id"])) for line in lines], seed=0)
            if len(sides[1]) < 2:
                sys.exit(
                    f"{getattr(self.arguments, task)} has too few documents for a half of {max(SIZES)}, groups kept whole"
                )
            with open(path, "w", encoding="utf-8") as file:
                for place in sides[0] + sides[1]:
                    file.write(json.dumps(lines[place], ensure_ascii=False) + "\n")
            write_json(self.path(task, "split.json"), {"calibration": len(sides[0]), "test": len(sides[1])})
        return path

    def split(self, task):
        """How many documents to calibrate on, and how many after them to test on."""
        sizes = json.load(open(self.path(task, "split.json")))
        return sizes["calibration"], min(sizes["test"], self.arguments.test or sizes["test"])

    def policy(self, task, measure):
        layers, *thresholds = self.policies[task][measure]
        return ["--confidence", measure, "--exit-layers", layers, *self.heads], thresholds

    def losses(self):
        for task in self.tasks:
            data = self.documents(task)
            limit = ["--limit", str(sum(self.split(task)))]
            for measure in MEASURES:
                policy, thresholds = self.policy(task, measure)
                name = self.path(task, measure)
                if os.path.exists(name + ".losses.jsonl"):
                    continue
                # Any epsilon does: the losses of every threshold come first.
                self.egress(
                    "calibrate",
                    "--data",
                    data,
                    "--metric",
                    METRICS[task],
                    *thresholds,
                    "--output",
                    name,
                    *policy,
                    *limit,
                    "--epsilon",
                    "0.5",
                    "--certificate",
                    name + ".all.json",
                    "--force",
                    allowed=(0, 2, 3),
                )

    # Rules: from the tables of losses alone.

    def rules(self):
        for task in self.tasks:
            calibration, tested = self.split(task)
            first = list(range(calibration)), list(range(calibration, calibration + tested))
            lines = read_lines(self.documents(task))[: calibration + tested]
            groups = [str(line.get("group", line["id"])) for line in lines]
            for measure in MEASURES:
                path = self.path(task, measure, "rules.json")
                if os.path.exists(path):
                    continue
                table = Table(self.path(task, measure))
                splits = {size: self.splits(groups, size) for size in SIZES}
                cells = []
                for size in SIZES:
                    kinds = splits[size]
                    everything = [((first[0][:size], first[1]), rule) for rule in RULES]
                    everything += [(split, rule) for kind in kinds for split in kinds[kind] for rule in RULES]
                    with concurrent.futures.ThreadPoolExecutor(2) as pool:
                        found = list(
                            pool.map(lambda job: self.calibrate(table, job[0][0], job[1], METRICS[task]), everything)
                        )
                    for index, rule in enumerate(RULES):
                        for epsilon in EPSILONS:
                            threshold, outcome = found[index][epsilon]
                            cell = {
                                "n": size,
                                "rule": rule,
                                "epsilon": epsilon,
                                "threshold": threshold,
                                "outcome": outcome,
                                **table.measure(threshold, first[1]),
                            }
                            for number, kind in enumerate(kinds):
                                start = len(RULES) * (1 + number * SPLITS)
                                tests = [
                                    table.measure(found[start + len(RULES) * k + index][epsilon][0], split[1])
                                    for k, split in enumerate(kinds[kind])
                                ]
                                risks = [test["risk"] for test in tests]
                                cell[kind] = {
                                    "violations": sum(risk > epsilon for risk in risks),
                                    "splits": len(risks),
                                    "mean_risk": sum(risks) / len(risks),
                                    "mean_megabytes": sum(test["megabytes"] for test in tests) / len(tests),
                                }
                            cells.append(cell)
                full = table.measure(1, first[1])
                write_json(path, {"full": full, "tested": len(first[1]), "cells": cells})
                print(f"{path}: done", file=sys.stderr, flush=True)

    @staticmethod
    def splits(groups, size):
        """What the rules are tried on, as places to calibrate on and to test on.

        "split": the documents fall into two halves, whole groups on one side. A test half is small, so that its mean is
        now and then above epsilon where the risk is not. "resampled": the documents are the whole world; calibration
        documents are drawn from them with replacement, and the mean over all is the risk itself."""
        split = [halves(groups, seed) for seed in range(1, SPLITS + 1)]
        chance = random.Random(0)
        everyone = range(len(groups))
        return {
            "split": [(first[:size], second) for first, second in split],
            "resampled": [(chance.choices(everyone, k=size), everyone) for _ in range(SPLITS)],
        }

    def calibrate(self, table, places, rule, metric):
        """The threshold and the outcome by epsilon, from the losses of some documents."""
        with tempfile.TemporaryDirectory() as folder:
            losses = os.path.join(folder, "losses.jsonl")
            with open(losses, "w", encoding="utf-8") as file:
                file.writelines(table.lines[place] for place in places)
            text = self.egress(
                "calibrate",
                losses,
                "--rule",
                rule,
                "--bound",
                RULES[rule],
                "--delta",
                str(DELTA),
                "--metric",
                metric,
                "--epsilon",
                ",".join(map(str, EPSILONS)),
                "--format",
                "json",
                model=False,
                allowed=(0, 2, 3),
                quiet=True,
            )
        return {
            certificate["epsilon"]: (certificate["threshold"], certificate["outcome"])
            for certificate in json.loads(text)
        }

    # The clock.

    def measured(self):
        """The thresholds to put on the clock, by task and measure: (threshold, path of the result).

        Those of UCB and the largest n come first, then the safest of each measure, so that no other is without a safer
        one that was measured. Of thresholds that read the same within 1 % one is measured."""
        cells = [
            (task, measure, cell)
            for task in self.tasks
            for measure in MEASURES
            for cell in read_rules(self, task, measure)["cells"]
            if cell["threshold"] < 1
        ]

        def order(item):
            task, measure, cell = item
            safest = max(other["threshold"] for a, b, other in cells if (a, b) == (task, measure))
            urgency = (
                0 if cell["rule"] == "ucb" and cell["n"] == max(SIZES) else 1 if cell["threshold"] == safest else 2
            )
            return urgency, ["ucb", "ltt", "crc"].index(cell["rule"]), -cell["n"], abs(cell["epsilon"] - 0.05)

        wanted = [
            (task, measure, cell["threshold"], cell["megabytes"]) for task, measure, cell in sorted(cells, key=order)
        ]
        chosen = []
        for task, measure, threshold, megabytes in wanted:
            if len(chosen) == self.arguments.clock_runs:
                break
            near = [other for other in chosen if other[:2] == (task, measure) and abs(other[3] / megabytes - 1) < 0.01]
            if not near:
                chosen.append((task, measure, threshold, megabytes))
        return chosen

    def clock_path(self, task, measure, threshold):
        return self.path(task, measure, f"clock-{threshold:.17g}", "json")

    def clock(self):
        chosen = self.measured()
        for number, (task, measure, threshold, _) in enumerate(chosen):
            path = self.clock_path(task, measure, threshold)
            if os.path.exists(path):
                continue
            print(f"clock {number + 1} of {len(chosen)}", file=sys.stderr, flush=True)
            skip, _ = self.split(task)
            policy, _ = self.policy(task, measure)
            write_json(
                path,
                json.loads(
                    self.egress(
                        "evaluate",
                        "--data",
                        self.documents(task),
                        "--skip",
                        str(skip),
                        "--limit",
                        str(self.arguments.clock_documents),
                        "--metric",
                        METRICS[task],
                        "--exit-threshold",
                        repr(threshold),
                        *policy,
                        "--format",
                        "json",
                    )
                ),
            )

    def on_clock(self, task, measure, threshold):
        """What the clock showed at a threshold, or else at the next safer one that was measured, and that threshold."""
        if threshold >= 1:
            return None, 1
        begin = f"{task}.{measure}.clock-"
        names = [
            name for name in os.listdir(self.arguments.output) if name.startswith(begin) and name.endswith(".json")
        ]
        thresholds = sorted(float(name[len(begin) : -len(".json")]) for name in names)
        place = bisect.bisect_left(thresholds, threshold)
        if place == len(thresholds):
            return None, None
        return json.load(open(self.clock_path(task, measure, thresholds[place]))), thresholds[place]

    def tables(self):
        rows = []
        for task in self.tasks:
            for measure in MEASURES:
                found = read_rules(self, task, measure)
                for cell in found["cells"]:
                    clock, at = self.on_clock(task, measure, cell["threshold"])
                    row = {"task": task, "metric": METRICS[task], "measure": measure, **cell, "clock_threshold": at}
                    if cell["threshold"] >= 1:
                        row["ratio"] = 1.0
                    elif clock:
                        row["ratio"], row["document_ratio"] = clock["time_ratio"], clock["document_time_ratio"]
                        row["milliseconds"] = clock["exits"]["milliseconds_per_token"]
                        row["full_milliseconds"] = clock["full"]["milliseconds_per_token"]
                        row["breakdown"] = {way: clock[way]["breakdown"] for way in ("full", "exits")}
                    rows.append(row)
        tested = {task: read_rules(self, task, MEASURES[0])["tested"] for task in self.tasks}
        write_json(self.path("tables.json"), {"delta": DELTA, "tested": tested, "rows": rows})
        text = pages.tables(rows, tested, self.policies, self.arguments.clock_documents)
        with open(self.path("tables.md"), "w", encoding="utf-8") as file:
            file.write(text)
        folder = self.arguments.figures or self.arguments.output
        os.makedirs(folder, exist_ok=True)
        for task in self.tasks:
            with open(os.path.join(folder, f"early-exit-{task}.svg"), "w", encoding="utf-8") as file:
                file.write(pages.figure([row for row in rows if row["task"] == task], task))
        print(text)


def read_rules(work, task, measure):
    return json.load(open(work.path(task, measure, "rules.json")))


class Table:
    """Losses, megabytes and layers of every document at every threshold."""

    def __init__(self, name):
        with open(name + ".losses.jsonl", encoding="utf-8") as file:
            self.lines = file.readlines()
        self.losses = [json.loads(line) for line in self.lines]
        self.runs = read_lines(name + ".runs.jsonl")[1:]
        for steps in self.losses + self.runs:
            steps["rising"] = [-value for value in steps["thresholds"]]

    @staticmethod
    def at(steps, threshold, key):
        # Thresholds fall: the last that is not below counts.
        return steps[key][max(bisect.bisect_right(steps["rising"], -threshold) - 1, 0)]

    def measure(self, threshold, places):
        """Mean loss and its standard error, megabytes and layers of a token, of some documents."""
        losses = [self.at(self.losses[place], threshold, "losses") for place in places]
        mean = sum(losses) / len(losses)
        square = sum((loss - mean) ** 2 for loss in losses) / max(len(losses) - 1, 1)
        return {
            "risk": mean,
            "error": (square / len(losses)) ** 0.5,
            "megabytes": sum(self.at(self.runs[place], threshold, "costs") for place in places) / len(places),
            "layers": sum(self.at(self.runs[place], threshold, "layers") for place in places) / len(places),
        }


def main():
    arguments = read_arguments()
    work = Work(arguments)
    for phase in arguments.phases.split(","):
        getattr(work, phase)()


if __name__ == "__main__":
    main()
