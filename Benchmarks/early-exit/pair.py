#!/usr/bin/env python3
"""Makes the published comparison on the pair of encoder-decoders that comes with the program: risk, exit layer and time
over epsilon for three confidence measures and three rules, BiLD's speed-up over epsilon, and ROUGE-L of every layer.

    python3 Benchmarks/early-exit/pair.py --data DATA/test.jsonl --output out --figures docs/figures

Needs a built `egress` (make build) and the test split that Weights/recipes/debian-synopsis/make_data.py writes.
Everything is kept in the folder --output, so that a second call goes on where the first one ended, and what was removed
is made again:

  layers  decodes the documents with all tokens leaving after one layer
  losses  runs the models on all documents at every threshold
  study   calibrates on n documents and tests on the others, 100 times; no model is run
  clock   calibrates once on n documents drawn at random and decodes others both ways by turns: wants a machine that does nothing else
  tables  writes pair.md, pair.json and the figures
"""

import argparse
import bisect
import json
import os
import random
import sys
from pathlib import Path

import pages

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "Scripts"))
from egress_tools import read_lines, run_egress, write_json

SIZES = [100, 500, 1000]
EPSILONS = [0.01, 0.02, 0.05, 0.1, 0.2]
DELTA = 0.1
TRIALS = 100
GRID = "0.98:0.02:-0.02"
# Chosen on the validation split by the bytes that a token reads at a risk of 0.05.
POLICIES = {
    measure: ["--confidence", measure, "--exit-layers", "2,3,4,6"]
    for measure in ("softmax", "saturation", "classifier")
}
BILD = ["--fallback", "0.1", "--draft-length", "8"]
MAX_TOKENS = "32"
# The models read 512 tokens, and a document that does not fit is no document to calibrate on.
CHARACTERS = 1000


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="JSON Lines with the fields id, document and reference")
    parser.add_argument("--output", required=True, help="folder of everything")
    parser.add_argument("--figures", help="folder of the figures (default: --output)")
    parser.add_argument("--phases", default="layers,losses,study,clock,tables")
    parser.add_argument("--model", default="debian-synopsis")
    parser.add_argument("--draft", default="debian-synopsis-small")
    parser.add_argument("--exit-heads", help="as for egress; by default those that come with the program")
    parser.add_argument("--threads", default="1", help="the models are too small for more than one to pay")
    parser.add_argument("--clock-documents", type=int, default=400)
    parser.add_argument("--egress", default=".build/release/egress")
    return parser.parse_args()


class Work:
    def __init__(self, arguments):
        self.arguments = arguments
        os.makedirs(arguments.output, exist_ok=True)
        self.figures = arguments.figures or arguments.output
        os.makedirs(self.figures, exist_ok=True)
        self.data = self.path("documents.jsonl")
        if not os.path.exists(self.data):
            with open(self.data, "w", encoding="utf-8") as file:
                file.writelines(
                    json.dumps(
                        {
                            "id": line["id"],
                            "document": line["document"][:CHARACTERS],
                            "references": [line["reference"]],
                        },
                        ensure_ascii=False,
                    )
                    + "\n"
                    for line in read_lines(arguments.data)
                )
        heads = ["--exit-heads", arguments.exit_heads] if arguments.exit_heads else []
        self.ways = {measure: [*policy, *heads] for measure, policy in POLICIES.items()}
        self.ways["bild"] = ["--draft", arguments.draft, *BILD]
        self.model = ["--model", arguments.model, "--threads", arguments.threads]

    def path(self, *parts):
        return os.path.join(self.arguments.output, ".".join(parts))

    def egress(self, *command, allowed=(0,)):
        return run_egress(self.arguments.egress, command, allowed)

    def layers(self):
        path = self.path("layers.json")
        if os.path.exists(path):
            return
        rows = []
        for layer in range(1, 8):
            found = json.loads(
                self.egress(
                    "evaluate",
                    "--data",
                    self.data,
                    *self.model,
                    "--exit-heads",
                    "none",
                    "--exit-layers",
                    str(layer),
                    "--exit-threshold",
                    "0",
                    "--max-tokens",
                    MAX_TOKENS,
                    "--format",
                    "json",
                )
            )
            rows.append({"layer": layer, "rouge_l": found["exits"]["quality"], "time_ratio": found["time_ratio"]})
        write_json(path, [*rows, {"layer": 8, "rouge_l": found["full"]["quality"], "time_ratio": 1.0}])

    def losses(self):
        for way, options in self.ways.items():
            name = self.path(way)
            if os.path.exists(name + ".losses.jsonl"):
                continue
            grid = [] if way == "bild" else ["--grid", GRID]
            # Any epsilon does: the losses of every threshold come first.
            self.egress(
                "calibrate",
                "--data",
                self.data,
                *self.model,
                *options,
                *grid,
                "--max-tokens",
                MAX_TOKENS,
                "--output",
                name,
                "--epsilon",
                "0.5",
                "--certificate",
                name + ".all.json",
                "--force",
                allowed=(0, 2, 3),
            )

    def study(self):
        for way in self.ways:
            losses = read_lines(self.path(way, "losses.jsonl"))
            runs = read_lines(self.path(way, "runs.jsonl"))[1:]
            with open(self.path(way, "layers.jsonl"), "w", encoding="utf-8") as file:
                for loss, run in zip(losses, runs):
                    sign = -1 if way != "bild" else 1
                    rising = [sign * value for value in loss["thresholds"]]
                    places = [bisect.bisect_right(rising, sign * value) - 1 for value in run["thresholds"]]
                    file.write(
                        json.dumps(
                            {
                                "thresholds": run["thresholds"],
                                "losses": [loss["losses"][place] for place in places],
                                "costs": run["layers"],
                            }
                        )
                        + "\n"
                    )
            common = [
                "--trials",
                str(TRIALS),
                "--delta",
                str(DELTA),
                "--rules",
                "crc,ucb/wsr,ltt/hb",
                "--calibration-size",
                ",".join(map(str, SIZES)),
                "--format",
                "json",
            ]
            for kind, table in (("study", "losses"), ("layers", "layers")):
                if not os.path.exists(self.path(way, kind, "json")):
                    figure = ["--figure", os.path.join(self.figures, f"pair-{way}.svg")] if kind == "study" else []
                    text = self.egress("study", self.path(way, table, "jsonl"), *common, *figure)
                    with open(self.path(way, kind, "json"), "w", encoding="utf-8") as file:
                        file.write(text)

    def clock(self):
        size = max(SIZES)
        with open(self.data, encoding="utf-8") as file:
            documents = file.readlines()
        order = random.Random(1).sample(range(len(documents)), len(documents))
        held_out = self.path("held-out.jsonl")
        with open(held_out, "w", encoding="utf-8") as file:
            file.writelines(documents[i] for i in order[size : size + self.arguments.clock_documents])
        for way, options in self.ways.items():
            with open(self.path(way, "losses.jsonl"), encoding="utf-8") as file:
                lines = file.readlines()
            calibration = self.path(way, "calibration.jsonl")
            with open(calibration, "w", encoding="utf-8") as file:
                file.writelines(lines[i] for i in order[:size])
            certificates = json.loads(
                self.egress(
                    "calibrate",
                    calibration,
                    "--rule",
                    "ucb",
                    "--delta",
                    str(DELTA),
                    "--metric",
                    "rouge-l",
                    "--certificate",
                    self.path(way, "certificate.json"),
                    "--force",
                    "--epsilon",
                    ",".join(map(str, EPSILONS)),
                    "--format",
                    "json",
                    allowed=(0, 2, 3),
                )
            )
            for certificate in certificates:
                threshold = certificate["threshold"]
                path = self.path(way, f"clock-{certificate['epsilon']:g}", "json")
                if os.path.exists(path):
                    continue
                if threshold is None or certificate["outcome"] != "certified":
                    write_json(path, None)
                    continue
                rule = "--rollback" if way == "bild" else "--exit-threshold"
                write_json(
                    path,
                    {
                        "threshold": threshold,
                        **json.loads(
                            self.egress(
                                "evaluate",
                                "--data",
                                held_out,
                                *self.model,
                                *options,
                                rule,
                                repr(threshold),
                                "--max-tokens",
                                MAX_TOKENS,
                                "--format",
                                "json",
                            )
                        ),
                    },
                )

    def tables(self):
        layers = json.load(open(self.path("layers.json")))
        studies = {
            way: {kind: json.load(open(self.path(way, kind, "json")))["measurements"] for kind in ("study", "layers")}
            for way in self.ways
        }
        clock = {
            way: {epsilon: json.load(open(self.path(way, f"clock-{epsilon:g}", "json"))) for epsilon in EPSILONS}
            for way in self.ways
        }
        write_json(self.path("pair.json"), {"layers": layers, "studies": studies, "clock": clock})
        text = tables(layers, studies, clock, self.arguments.clock_documents)
        with open(self.path("pair.md"), "w", encoding="utf-8") as file:
            file.write(text)
        with open(os.path.join(self.figures, "pair.svg"), "w", encoding="utf-8") as file:
            file.write(figure(layers, studies, clock))
        print(text)


def cells(rows, size, rule):
    """The rows of a study, by epsilon."""
    return {round(row["epsilon"], 4): row for row in rows if row["calibration_size"] == size and row["rule"] == rule}


def tables(layers, studies, clock, clock_documents):
    text = ["| layer | ROUGE-L | ms a token, full depth = 1 |", "|---|---|---|"]
    text += [f"| {row['layer']} | {100 * row['rouge_l']:.1f} | {row['time_ratio']:.2f} |" for row in layers]
    text += [
        "",
        f"On the clock: UCB, n = {max(SIZES)}, on {clock_documents} others.",
        "",
        "| | ε | λ | test risk | ROUGE-L (full depth) | layers | ms a token / full depth | document |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for way, found in clock.items():
        for epsilon, row in found.items():
            if row is None:
                text.append(f"| {way} | {epsilon:g} | nothing past full depth | | | | 1 | 1 |")
                continue
            text.append(
                f"| {way} | {epsilon:g} | {row['threshold']:.3g} | {row['test_risk']:.4f} ± {row['test_risk_error']:.4f} | "
                f"{100 * row['exits']['quality']:.1f} ({100 * row['full']['quality']:.1f}) | {row['exits']['average_layer']:.2f} | "
                f"{row['exits']['milliseconds_per_token']:.3f} / {row['full']['milliseconds_per_token']:.3f} = "
                f"{row['time_ratio']:.3f} | {row['document_time_ratio']:.3f} |"
            )
    text += [
        "",
        f"{TRIALS} random splits each: mean test risk, mean layers a token, and how many of 100 test sets have a mean above ε.",
        "",
        "| | n | rule | " + " | ".join(f"ε = {epsilon:g}" for epsilon in EPSILONS) + " |",
        "|---" * (3 + len(EPSILONS)) + "|",
    ]
    for way, found in studies.items():
        for size in SIZES:
            for rule, name in pages.RULES.items():
                risks, depths = cells(found["study"], size, rule), cells(found["layers"], size, rule)
                text.append(
                    f"| {way} | {size} | {name} | "
                    + " | ".join(
                        f"{risks[epsilon]['risk_mean']:.4f}, {depths[epsilon]['cost_mean']:.2f}, "
                        f"{100 * risks[epsilon]['violation_rate']:.0f}"
                        for epsilon in EPSILONS
                    )
                    + " |"
                )
    return "\n".join(text) + "\n"


BILD_COLORS = ("#a0307a", "#e58ac5")


def figure(layers, studies, clock):
    """Four panels: exit layer, time, and BiLD's speed-up over epsilon, and ROUGE-L over the exit layer."""
    colors = pages.COLORS | {"bild": BILD_COLORS}
    width, height, left, top, gap = 300, 200, 50, 56, 64
    panels = [
        ("average exit layer (of 8)", {way: depth_points(studies[way]) for way in pages.COLORS}, (0, 8, 2)),
        (
            "time of a token, full depth = 1",
            {way: [(e, row["time_ratio"] if row else 1) for e, row in clock[way].items()] for way in pages.COLORS},
            (0, 1.2, 0.2),
        ),
        (
            "BiLD: speed-up of a document",
            {"bild": [(e, 1 / row["document_time_ratio"] if row else 1) for e, row in clock["bild"].items()]},
            (0.5, 2.5, 0.5),
        ),
        (
            "ROUGE-L when all tokens leave after a layer",
            {"softmax": [(row["layer"], 100 * row["rouge_l"]) for row in layers]},
            None,
        ),
    ]
    total = (left + 2 * (width + 60), top + 2 * (height + gap) + 8)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total[0]} {total[1]}" role="img" width="{total[0]}">',
        "<title>The pair: exit layer, time and speed-up over epsilon, and ROUGE-L over the layer</title>",
        pages.style(colors),
        f'<text class="title" x="{left}" y="18">UCB, δ = {DELTA:g}, n = {max(SIZES)}, 1 − ROUGE-L</text>',
    ]
    for place, way in enumerate(colors):
        name = "BiLD" if way == "bild" else way
        parts.append(f'<text class="{way}" x="{left + 110 * place}" y="36">● {name}</text>')
    for number, (name, lines, axis) in enumerate(panels):
        x0, y0 = left + number % 2 * (width + 60), top + 16 + number // 2 * (height + gap)
        if axis is None:
            values = [value for points in lines.values() for _, value in points]
            bottom, ceiling = int(min(values) // 5) * 5, int(max(values) // 5 + 1) * 5
            axis = (bottom, ceiling, 5 if ceiling - bottom <= 30 else 10)
        bottom, ceiling, step = axis
        steps = [point[0] for point in next(iter(lines.values()))]

        def x(value):
            return x0 + 16 + steps.index(value) * (width - 32) / (len(steps) - 1)

        def y(value):
            return y0 + height * (1 - (value - bottom) / (ceiling - bottom))

        parts.append(f'<text x="{x0}" y="{y0 - 8}">{name}</text>')
        for index in range(round((ceiling - bottom) / step) + 1):
            value = bottom + index * step
            parts.append(f'<line class="grid" x1="{x0}" x2="{x0 + width}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
            parts.append(f'<text x="{x0 - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
        for value in steps:
            parts.append(f'<text x="{x(value):.1f}" y="{y0 + height + 16}" text-anchor="middle">{value:g}</text>')
        parts.append(
            f'<text x="{x0 + width / 2}" y="{y0 + height + 32}" text-anchor="middle">{"layer" if number == 3 else "ε"}</text>'
        )
        for way, points in lines.items():
            places = [(x(a), y(b)) for a, b in points]
            parts.append(pages.polyline(f"line {way}", places))
            parts += [f'<circle class="dot {way}" cx="{a:.1f}" cy="{b:.1f}" r="3.5"/>' for a, b in places]
    return "\n".join([*parts, "</svg>", ""])


def depth_points(study):
    found = cells(study["layers"], max(SIZES), "ucb")
    return [(epsilon, found[epsilon]["cost_mean"]) for epsilon in EPSILONS]


def main():
    arguments = read_arguments()
    work = Work(arguments)
    for phase in arguments.phases.split(","):
        getattr(work, phase)()


if __name__ == "__main__":
    main()
