"""Writes what the reader summarises for its draft head, as JSON Lines for `egress summarize --input`.

    python make_documents.py --data TRAIN --out documents.jsonl

TRAIN has summarize_*.jsonl, as train_reader.py reads them. Of each file at most 260 documents are drawn, of notes and
letters, which are short, 120; none has more than 380 words."""

import argparse
import json
import random
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--data", required=True, type=Path)
parser.add_argument("--out", required=True, type=Path)
parser.add_argument("--count", type=int, default=900)
arguments = parser.parse_args()
random.seed(7)
chosen = []
for path in sorted(arguments.data.glob("summarize_*.jsonl")):
    rows = [json.loads(line) for line in open(path)]
    rows = [row for row in rows if len(row["document"].split()) <= 380]
    random.shuffle(rows)
    chosen += rows[: 120 if path.stem in ["summarize_meqsum", "summarize_mtsdialog"] else 260]
random.shuffle(chosen)
with open(arguments.out, "w") as file:
    for row in chosen[: arguments.count]:
        record = {key: row[key] for key in ["id", "document", "query"] if key in row}
        print(json.dumps(record), file=file)
