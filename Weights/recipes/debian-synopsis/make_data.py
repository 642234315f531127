#!/usr/bin/env python3
"""Make the data set: long description -> synopsis of every package of a Debian release.

Reads apt's two indexes of a release as they lie in /var/lib/apt/lists after

    apt-get -o Acquire::Languages=en update

and writes train.jsonl, validation.jsonl, calibration.jsonl and test.jsonl, of objects with `id`, `document`,
`reference` and `source`. All packages built from one source are in one split; a hash of the source's name decides
which. Packages of one source share most of their text, so training takes a few of each, and the other splits one: their
documents are then as independent of each other as the sources are, which calibration asks for."""

import argparse
import collections
import glob
import hashlib
import json
import pathlib
import re
import subprocess
import sys

#: Upper ends of the ranges of the hash, of 1, for each split but the last.
SPLITS = [("test", 0.055), ("calibration", 0.110), ("validation", 0.125), ("train", 1.0)]

#: Packages of one source in each split, the first ones in the order of a hash of their names.
PACKAGES_OF_A_SOURCE = {"test": 1, "calibration": 1, "validation": 1, "train": 4}


def read_index(path):
    """The text of an index, unpacked by apt whatever it is packed with."""
    return subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", path], check=True, capture_output=True).stdout


def stanzas(text):
    """The paragraphs of a control file as dictionaries."""
    for block in text.split("\n\n"):
        fields, name = {}, None
        for line in block.split("\n"):
            if line[:1] in (" ", "\t"):
                if name:
                    fields[name] += "\n" + line
            elif ":" in line:
                name, value = line.split(":", 1)
                fields[name] = value.strip()
        if fields:
            yield fields


def long_text(lines):
    """A long description as one line: the paragraphs one after the other, list items ended like sentences."""
    paragraphs, current = [], []
    for line in lines:
        if line.strip() == ".":
            paragraphs.append(current)
            current = []
            continue
        is_item = re.match(r"\s+([-*+o•·]|\d+[.)])\s+", line) is not None
        text = re.sub(r"^\s*([-*+•·]|o(?=\s))\s+", "", line).strip()
        if not text:
            continue
        if is_item and current:
            paragraphs.append(current)
            current = []
        current.append(text)
    paragraphs.append(current)
    joined = [re.sub(r"\s+", " ", " ".join(p)).strip() for p in paragraphs if p]
    result = ""
    for text in joined:
        if result and result[-1] not in ".!?:;,":
            result += "."
        result += (" " if result else "") + text
    return result


def normalised(text):
    return re.sub(r"[^a-z]+", " ", text.lower()).strip()


def split_of(source, seed):
    share = int.from_bytes(hashlib.sha256(f"{seed}:{source}".encode()).digest()[:8], "big") / 2**64
    return next(name for name, end in SPLITS if share < end)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lists", default="/var/lib/apt/lists", help="apt's folder of indexes")
    parser.add_argument("--release", default="debian_dists_bookworm_main", help="part of the indexes' names")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder for the four files and data.json")
    parser.add_argument("--seed", default="debian-synopsis", help="salt of the hash that splits")
    arguments = parser.parse_args()

    def one(pattern):
        found = sorted(glob.glob(f"{arguments.lists}/*{arguments.release}{pattern}"))
        if len(found) != 1:
            sys.exit(f"{arguments.lists}: expected one index *{arguments.release}{pattern}, found {len(found)}")
        return found[0]

    facts = {"indexes": {}}
    texts = {}
    for kind, pattern in (("packages", "_binary-*_Packages*"), ("translation", "_i18n_Translation-en*")):
        path = one(pattern)
        raw = read_index(path)
        facts["indexes"][pathlib.Path(path).name.rsplit(".lz4", 1)[0]] = {
            "bytes": len(raw),
            "sha256": hashlib.sha256(raw).hexdigest(),
        }
        texts[kind] = raw.decode("utf-8")

    sources = {}
    for fields in stanzas(texts["packages"]):
        if "Package" in fields:
            sources[fields["Package"]] = fields.get("Source", fields["Package"]).split(" ")[0]

    seen, rows, dropped = set(), [], {"no_source": 0, "short": 0, "same_text": 0}
    for fields in sorted(stanzas(texts["translation"]), key=lambda f: f.get("Package", "")):
        package, description = fields.get("Package"), fields.get("Description-en")
        if not package or not description:
            continue
        if package not in sources:
            dropped["no_source"] += 1
            continue
        synopsis, *lines = description.split("\n")
        synopsis = re.sub(r"\s+", " ", synopsis).strip()
        # The first space of a line belongs to the format; a second one marks text that is not to be filled.
        document = long_text([line[1:] for line in lines])
        if len(document) < 40 or len(synopsis) < 8:
            dropped["short"] += 1
            continue
        key = normalised(document)
        if key in seen:
            dropped["same_text"] += 1
            continue
        seen.add(key)
        rows.append({"id": package, "document": document, "reference": synopsis, "source": sources[package]})

    arguments.out.mkdir(parents=True, exist_ok=True)
    facts |= {"seed": arguments.seed, "kept": len(rows), "dropped": dropped, "splits": {}}
    for name, _ in SPLITS:
        members = [row for row in rows if split_of(row["source"], arguments.seed) == name]
        # In the order of a hash, so that the first n of a file are a sample of it.
        members.sort(key=lambda row: hashlib.sha256(row["id"].encode()).digest())
        taken = collections.Counter()
        for row in members:
            taken[row["source"]] += 1
            row["rank"] = taken[row["source"]]
        members = [row for row in members if row.pop("rank") <= PACKAGES_OF_A_SOURCE[name]]
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in members).encode()
        (arguments.out / f"{name}.jsonl").write_bytes(data)
        facts["splits"][name] = {
            "documents": len(members),
            "sources": len({row["source"] for row in members}),
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
    text = json.dumps(facts, indent=2)
    (arguments.out / "data.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
