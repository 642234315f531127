#!/usr/bin/env python3
"""What a model writes, against references and sources, on held-out documents.

    python3 Benchmarks/quality/quality.py --data FOLDER --output out                          # egress
    python3 Benchmarks/quality/quality.py --data FOLDER --output out --model NAME -- --extractive  # egress's after --
    python3 Benchmarks/quality/quality.py --data FOLDER --output out --outputs PEER             # PEER/SET.jsonl

FOLDER holds files SET.jsonl of objects with `id`, `task` (summarize | answer), `document`, `references`; answers with
`question` and perhaps `answerable`; summaries perhaps with `query`. Writes out/SET.jsonl (outputs of egress; a second
call goes on), scores.json and table.md, and prints the table. Answers: exact match and token F1 after SQuAD's
normalisation. Summaries: ROUGE with stemming, the best of several references, and its paired difference from the
source's first one, two and three sentences (of a dialogue: turns). --part keeps the documents that choices may be made
on (a fifth, `choose`) apart from those that figures are quoted from (`quote`)."""

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path

from scores import exact_match, is_refusal, repeats, rouge, sentences, token_f1, unsupported

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "Scripts"))
from egress_tools import mean, standard_error

LEADS = [1, 2, 3]


def part(row):
    """Of documents of one group all are in one part."""
    key = row.get("group") or row["document"]
    return "choose" if int(hashlib.sha256(key.encode()).hexdigest(), 16) % 5 == 0 else "quote"


def read(path, wanted, limit):
    rows = []
    for number, line in enumerate(open(path), 1):
        try:
            row = json.loads(line)
            missing = [name for name in ["id", "task", "document"] if not row.get(name)]
        except (ValueError, AttributeError):
            sys.exit(f"{path}, line {number}: expected an object, found {line[:40]!r}")
        if missing:
            sys.exit(f"{path}, line {number}: field {missing[0]} is missing")
        if row["task"] not in ["summarize", "answer"]:
            sys.exit(f"{path}, line {number}: task is {row['task']!r}, expected summarize or answer")
        if not row.get("references") and row.get("answerable", True):
            sys.exit(f'{path}, line {number}: no references; only a question with "answerable": false may lack them')
        if wanted in ["all", part(row)]:
            rows.append(row)
    # In the order of a hash, so that a limit takes some of everything.
    rows.sort(key=lambda row: hashlib.sha256(str(row["id"]).encode()).hexdigest())
    return rows[:limit]


def run(arguments, task, rows, out):
    inputs = out.with_suffix(".input.jsonl")
    inputs.write_text(
        "".join(
            json.dumps({k: row[k] for k in ["id", "document", "question", "query"] if row.get(k)}) + "\n"
            for row in rows
        )
    )
    command = [arguments.egress, task, "--input", inputs, "--output", out]
    command += ["--model", arguments.model] if arguments.model else []
    subprocess.run([*command, *arguments.more], check=True)


def answers(rows, outputs):
    has = [row.get("answerable", True) for row in rows]
    given = [(row, output) for row, output, answerable in zip(rows, outputs, has) if answerable]
    without = [output for output, answerable in zip(outputs, has) if not answerable]
    result = {
        "documents": len(rows),
        "exact_match": mean(exact_match(o, r["references"]) for r, o in given),
        "f1": mean(token_f1(o, r["references"]) for r, o in given),
        "f1_error": standard_error(token_f1(o, r["references"]) for r, o in given),
        "refused": mean(float(is_refusal(o)) for _, o in given),
    }
    if without:
        result["refused_rightly"] = mean(float(is_refusal(o)) for o in without)
    return result


def summaries(rows, outputs):
    own = [rouge(output, row["references"]) for row, output in zip(rows, outputs)]
    result = {"documents": len(rows), **{kind: mean(score[kind] for score in own) for kind in own[0]}}
    result["first"] = {}
    for count in LEADS:
        firsts = [rouge(" ".join(sentences(row["document"])[:count]), row["references"]) for row in rows]
        result["first"][count] = {
            kind: {
                "value": mean(f[kind] for f in firsts),
                "difference": mean(a[kind] - f[kind] for a, f in zip(own, firsts)),
                "error": standard_error(a[kind] - f[kind] for a, f in zip(own, firsts)),
            }
            for kind in own[0]
        }
    return result


def both(rows, outputs):
    found = [unsupported(output, row["document"]) for row, output in zip(rows, outputs) if not is_refusal(output)]
    return {
        "unsupported": sum(len(bad) for bad, _ in found) / max(1, sum(count for _, count in found)),
        "repeats": mean(float(repeats(output)) for output in outputs),
        "words": mean(len(output.split()) for output in outputs),
    }


def table(scores):
    def line(*cells):
        return "| " + " | ".join(map(str, cells)) + " |"

    lines = []
    asked = {name: score for name, score in scores.items() if "exact_match" in score}
    if asked:
        lines += [
            line(
                "answers",
                "questions",
                "exact match",
                "F1",
                "refused, of those with an answer",
                "of those without",
                "unsupported",
                "repeats",
                "words",
            ),
            line(*["---"] * 9),
        ]
        for name, s in asked.items():
            lines.append(
                line(
                    name,
                    s["documents"],
                    f"{s['exact_match']:.3f}",
                    f"{s['f1']:.3f} ± {s['f1_error']:.3f}",
                    f"{s['refused']:.3f}",
                    f"{s['refused_rightly']:.3f}" if "refused_rightly" in s else "",
                    f"{s['unsupported']:.3f}",
                    f"{s['repeats']:.3f}",
                    f"{s['words']:.1f}",
                )
            )
        lines.append("")
    told = {name: score for name, score in scores.items() if "rougeL" in score}
    if told:
        lines += [
            line(
                "summaries",
                "documents",
                "ROUGE-1",
                "2",
                "L",
                "Lsum",
                *(f"above the first {n}: 2, L, Lsum" for n in LEADS),
                "unsupported",
                "repeats",
                "words",
            ),
            line(*["---"] * 12),
        ]
        for name, s in told.items():
            differences = [
                ", ".join(
                    f"{s['first'][n][kind]['difference']:+.3f} ± {s['first'][n][kind]['error']:.3f}"
                    for kind in ["rouge2", "rougeL", "rougeLsum"]
                )
                for n in LEADS
            ]
            lines.append(
                line(
                    name,
                    s["documents"],
                    *(f"{s[kind]:.3f}" for kind in ["rouge1", "rouge2", "rougeL", "rougeLsum"]),
                    *differences,
                    f"{s['unsupported']:.3f}",
                    f"{s['repeats']:.3f}",
                    f"{s['words']:.1f}",
                )
            )
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--egress", default=".build/release/egress")
    parser.add_argument("--model")
    parser.add_argument(
        "--outputs", type=Path, help="score these instead of running egress: SET.jsonl with id and text"
    )
    parser.add_argument("--sets", nargs="+", help="names of SET, all with a task unless given")
    parser.add_argument("--part", choices=["quote", "choose", "all"], default="quote")
    parser.add_argument("--limit", type=int, default=10**9, help="documents of a set")
    parser.add_argument("more", nargs="*", help="options for egress, after --")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    paths = sorted(path for path in arguments.data.glob("*.jsonl") if "train" not in path.stem)
    if arguments.sets:
        paths = [path for path in paths if path.stem in arguments.sets]
    if not paths:
        sys.exit(f"{arguments.data}: no SET.jsonl here")
    scores = {}
    for path in paths:
        rows = read(path, arguments.part, arguments.limit)
        if not rows:
            sys.exit(f"{path}: no documents of part {arguments.part}")
        file = (arguments.outputs or arguments.output) / f"{path.stem}.jsonl"
        if not arguments.outputs:
            run(arguments, rows[0]["task"], rows, file)
        texts = {str(found["id"]): found["text"] for found in map(json.loads, open(file))}
        missing = [row["id"] for row in rows if str(row["id"]) not in texts]
        if missing:
            sys.exit(f"{file}: no output for {missing[0]!r} and {len(missing) - 1} more of {path}")
        outputs = [texts[str(row["id"])].strip() for row in rows]
        scores[path.stem] = {
            **(answers if rows[0]["task"] == "answer" else summaries)(rows, outputs),
            **both(rows, outputs),
        }
    (arguments.output / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")
    (arguments.output / "table.md").write_text(table(scores))
    print(table(scores), end="")


if __name__ == "__main__":
    main()
