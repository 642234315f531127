"""Writes what the model is asked, as JSON Lines for `egress summarize --input` and `egress answer --input`.

    python make_prompts.py --abstracts scitldr-train.jsonl --texts texts.jsonl --descriptions train.jsonl \
        [--sampled sampled.jsonl] [--general general.jsonl] --held-out EVALUATION.jsonl ... --out PROMPTS

texts.jsonl is what Weights/exits/make_texts.py writes, train.jsonl what Weights/recipes/debian-synopsis/make_data.py
writes. A document that shares a run of twelve words with one of the evaluation files is left out. Prints counts and
hashes. """

import argparse
import hashlib
import json
import random
import re
from pathlib import Path

ABOUT_PAPERS = [
    "What problem does the paper address?",
    "Which method is proposed?",
    "What do the experiments show?",
    "What is the main result?",
    "How does it compare with earlier work?",
    "Which data sets or tasks are used?",
]
ABOUT_PACKAGES = [
    "What is {} used for?",
    "What does {} contain?",
    "Who is {} for?",
    "Which features does {} have?",
    "What does {} depend on or work with?",
]
ABOUT_NAMES = [
    "Who or what is {}?",
    "What does the text say about {}?",
    "Why is {} mentioned?",
    "What happened in {}?",
    "Where is {}?",
]
ABOUT_ALL = [
    "What is this text about?",
    "When did this happen?",
    "Where does this take place?",
    "Who is mentioned in the text?",
    "How many are there?",
    "What was the reason?",
    "What happened in the end?",
    "Which year is named?",
    "What did they do?",
    "What is it known for?",
]
RUN = 12


def read(path):
    return [json.loads(line) for line in open(path)]


def runs(text):
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[i : i + RUN]) for i in range(len(words) - RUN + 1)}


def halves(records):
    """Texts of their own: the first and the second half of a document's sentences, which overlap by a sentence or
    two."""
    for record in records:
        sentences = re.split(r"(?<=[.!?])\s+", record["document"])
        middle = len(sentences) // 2
        for letter, part in (("a", sentences[: middle + 1]), ("b", sentences[middle - 1 :])):
            text = " ".join(part)
            if len(sentences) >= 4 and len(text.split()) >= 40:
                yield {"id": record["id"] + letter, "document": text}


def question(text, chooser):
    """About a name that stands in the text, twice in three times, or what may be asked of any."""
    names = re.findall(r"(?<=[a-z,] )[A-Z]\w+(?: [A-Z]\w+)*", text)
    if not names or chooser.random() < 1 / 3:
        return chooser.choice(ABOUT_ALL)
    return chooser.choice(ABOUT_NAMES).format(chooser.choice(names))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--abstracts", required=True)
    parser.add_argument("--texts", required=True)
    parser.add_argument("--descriptions", required=True)
    parser.add_argument("--sampled", help="what sample_texts.py wrote, if it did")
    parser.add_argument("--general", help="the same, of the words of make_openings.py")
    parser.add_argument("--held-out", nargs="*", default=[])
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args()
    evaluated = set()
    for path in arguments.held_out:
        for record in read(path):
            evaluated |= runs(record["document"])
    chooser = random.Random(1)
    texts = read(arguments.texts)
    abstracts = [
        {"id": f"sci{index}", "document": record["document"]} for index, record in enumerate(read(arguments.abstracts))
    ]
    shuffled = abstracts[:]
    chooser.shuffle(shuffled)
    asked = [
        {**record, "id": "q" + record["id"], "question": ABOUT_PAPERS[index % len(ABOUT_PAPERS)]}
        for index, record in enumerate(shuffled[:400])
    ]
    packages = [record for record in read(arguments.descriptions) if 70 <= len(record["document"].split()) <= 400]
    chooser.shuffle(packages)
    general = read(arguments.general) if arguments.general else []
    files = {
        "abstracts.summarize": abstracts,
        "system.summarize": [record for record in texts if "question" not in record],
        "packages.summarize": [{"id": "d" + record["id"], "document": record["document"]} for record in packages[:700]],
        "system.answer": [record for record in texts if "question" in record],
        "packages.answer": [
            {
                "id": "e" + record["id"],
                "document": record["document"],
                "question": ABOUT_PACKAGES[index % len(ABOUT_PACKAGES)].format(record["id"]),
            }
            for index, record in enumerate(packages[700:1150])
        ],
        "abstracts.answer": asked,
        "halves.summarize": list(halves(record for record in abstracts if not runs(record["document"]) & evaluated)),
        "sampled.summarize": read(arguments.sampled) if arguments.sampled else [],
        "general.summarize": general[::3],
        "general.answer": [{**record, "question": question(record["document"], chooser)} for record in general],
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, records in files.items():
        kept = [record for record in records if not runs(record["document"]) & evaluated]
        path = arguments.out / f"{name}.jsonl"
        path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{name}: {len(kept)} of {len(records)}, sha256 {digest}")


main()
