"""Writes texts to fit exit heads on, as JSON Lines: what this Debian system says about itself.

    python3 make_texts.py [more.jsonl ...] > texts.jsonl

Sources: descriptions of the installed packages and the DESCRIPTION sections of manual pages (each under its package's
free licence). Files named on the command line come first, their fields `id` and `document` only. Only the model's own
outputs are learned from: the texts are what it is asked about.
"""

import gzip
import hashlib
import json
import random
import re
import subprocess
import sys
from pathlib import Path


def packages():
    status = Path("/var/lib/dpkg/status").read_text(errors="replace")
    for entry in status.split("\n\n"):
        name = re.search(r"^Package: (.*)$", entry, re.MULTILINE)
        text = re.search(r"^Description: (.*(?:\n .*)*)", entry, re.MULTILINE)
        if name and text:
            lines = ["" if line.strip() == "." else line.strip() for line in text[1].split("\n")]
            yield "package-" + name[1], name[1], re.sub(r"\n(?!\n|\*|-)", " ", "\n".join(lines)).strip()


def manuals(section):
    pages = sorted(Path(f"/usr/share/man/man{section}").glob("*.gz"))
    random.Random(section).shuffle(pages)
    for page in pages[:900]:
        try:
            source = gzip.open(page, "rt", errors="replace").read()
            if source.startswith(".so"):
                continue
            text = subprocess.run(
                ["man", "--warnings=", "-P", "cat", "-l", str(page)],
                env={"MANWIDTH": "2000", "LC_ALL": "C.UTF-8"},
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            ).stdout
        except (OSError, subprocess.TimeoutExpired):
            continue
        found = re.search(r"^DESCRIPTION\n(.*?)(?=^\S)", re.sub(r".\x08", "", text), re.MULTILINE | re.DOTALL)
        if found:
            name = page.name.split(".")[0]
            yield f"manual-{page.name[:-3]}", name, re.sub(r"[ \t]+", " ", found[1]).strip()


def main():
    seen = set()
    number = 0

    def put(record):
        # The same text twice would be in the fit and in what is held out.
        key = hashlib.sha256(re.sub(r"\W+", "", record["document"].lower())[:400].encode()).hexdigest()
        if key in seen:
            return False
        seen.add(key)
        print(json.dumps(record, ensure_ascii=False))
        return True

    for path in sys.argv[1:]:
        for line in open(path):
            record = json.loads(line)
            put({"id": record["id"], "document": record["document"]})
    sources = [packages(), manuals(1), manuals(5), manuals(7)]
    questions = ["What is {}?", "What is {} used for?", "What does {} do?", "What kind of thing is {}?"]
    for source in sources:
        for identifier, name, text in source:
            words = text.split()
            if not len(words) >= 50 or sum(len(word) > 25 for word in words) > len(words) / 30:
                continue
            text = " ".join(text.split(" ")[:400])
            record = {"id": identifier, "document": text}
            # Two in three are asked about, the rest are summarised.
            if number % 3 != 0:
                record["question"] = questions[number % 4].format(name)
            number += put(record)


main()
