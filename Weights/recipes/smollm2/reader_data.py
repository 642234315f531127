"""Documents with questions and summaries, as token rows that share their document.

A document is read once and all that is asked about it hangs on its end: rows of one request see the document and their
own request, not each other. Two thirds of the rows of a question are its document's, so this reads 2.2 times as many
questions in the same time.
"""

import itertools
import json
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from gguf import GGUFReader
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

REFUSAL = "The text does not say."

# What a document's rows count for in the draw: 1 is once a round. Sources that teach another style than a summary's
# (proposals, conclusions, role play, letters that end in a question) are drawn less.
SHARES = {
    "scitldr-train": 1.0,
    "summarize_qmsum": 1.0,
    "summarize_mtsdialog": 0.7,
    "summarize_crd3": 0.5,
    "summarize_convosumm_email": 0.7,
    "summarize_gum": 1.0,
    "summarize_pubmedqa": 0.25,
    "summarize_usgov_posts": 1.0,
    "summarize_community_posts": 0.8,
    "summarize_proposals": 0.25,
    "summarize_meqsum": 0.0,
    "answer_squad2_pairs": 1.0,
    "answer_newwiki": 1.0,
    "answer_newwiki_unanswerable": 1.0,
    "answer_newwiki_swapped": 1.0,
    "answer_fairytale_span": 1.0,
    "answer_fairytale_freeform": 0.0,
    "answer_fairytale_unanswerable": 1.0,
    "answer_qamr": 0.8,
    "answer_qed_nq": 0.6,
    "answer_covidqa": 0.5,
    "answer_covidqa_unanswerable": 0.5,
}


class Request(NamedTuple):
    tokens: list  # of the request and of what is to be written
    output: int  # where the latter begins


class Item(NamedTuple):
    kind: str  # answer | summarize
    prefix: list  # the tokens up to the document's end
    requests: list


def tokenizer(path):
    """The byte-level tokenizer that a GGUF file of SmolLM2 holds."""
    fields = GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    result = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, merges))
    result.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    result.decoder = decoders.ByteLevel()
    result.opening, result.closing = tokens.index("<|im_start|>"), tokens.index("<|im_end|>")
    return result


# What counts for `evidence`, as in the program (PassageSelection).
NEAREST = 3


def words(text):
    return set(re.findall(r"[^\W_]+", text.lower()))


def weight(count, holders):
    """Counted doublings of 1 + count / holders, linear in between."""
    ratio, value = 1 + count / holders, 0.0
    while ratio >= 2:
        ratio /= 2
        value += 1
    return value + ratio - 1


def evidence(document, question):
    """What the program puts to a reader: the sentences nearest to a question, or all where words do not tell."""
    parts = SENTENCE_END.split(document.strip())
    if len(parts) <= NEAREST:
        return document
    asked = words(question)
    found = [words(part) & asked for part in parts]
    holders = Counter(word for own in found for word in own)
    scores = [sum(weight(len(parts), holders[word]) for word in sorted(own)) for own in found]
    total = sum(weight(len(parts), holders.get(word, 1)) for word in sorted(asked))
    if total == 0 or max(scores) < total / 3:
        return document
    best = sorted(range(len(parts)), key=lambda index: (-scores[index], index))[:NEAREST]
    return " ".join(parts[index] for index in sorted(best))


SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])")


def sentences(text):
    return max(1, len(SENTENCE_END.split(text.strip())))


# Share of the requests for a summary that ask for two or three sentences of the text itself, where its sentences are to
# be had: references are short, and who asks for three sentences wants three.
COPIED = {"scitldr-train": 0.15, "summarize_gum": 0.5, "summarize_usgov_posts": 0.5, "summarize_community_posts": 0.5}


def grams(text):
    words = re.findall(r"[a-z0-9]+", text.lower())
    return Counter(words) + Counter(itertools.pairwise(words))


def copied(document, reference, most):
    """The sentences that, added one by one, hold the most of the reference's words and pairs of words that is not held
    yet.

    Earlier ones win where two hold about the same, as an article's beginning is the best summary nobody wrote.
    """
    own = [
        part
        for part in SENTENCE_END.split(document.replace("\n", " ").strip())
        if 7 <= len(part.split()) <= 40 and part[-1] in ".!"
    ]
    counts, wanted = [grams(part) for part in own], grams(reference)
    if len(own) < most + 3 or not wanted:
        return None
    chosen, have = [], Counter()
    for _ in range(most):

        def gain(index):
            return ((have + counts[index]) & wanted).total() / wanted.total() - 0.02 * index

        best = max((index for index in range(len(own)) if index not in chosen), key=gain)
        chosen.append(best)
        have += counts[best]
    return " ".join(own[index] for index in sorted(chosen))


def invented(document, reference):
    """Whether a summary holds a number that its document lacks: learned from, it teaches to make numbers up."""
    return any(number not in document for number in re.findall(r"\d+", reference))


def wordings(reference, focus, chooser):
    """How a summary of that length is asked for; the length is told in two cases of three."""
    tail = f": {focus}" if focus else "."
    words = max(5, 5 * round(len(reference.split()) / 5))
    count = sentences(reference)
    many = "1 sentence" if count == 1 else f"{count} sentences"
    return chooser.choice([f"Summarize in {words} words{tail}", f"Summarize in {many}{tail}", f"Summarize{tail}"])


class Data:
    def __init__(self, folder, model, longest=700, held_out=False, spared=0.0, near=0.0):
        self.tokenizer = tokenizer(model)
        # Share of the questions that are put to the sentences nearest to them, as the program puts them.
        self.near = near
        # Share of the questions without an answer that are left out where a document has others.
        self.spared = spared
        self.longest = longest
        # By document: [(source, [(question or None, focus or None, references)])]
        self.documents = {}
        # By document: the share of its requests that ask for sentences of its own.
        self.copied = {}
        files = (
            [Path(path) for path in folder]
            if held_out
            else [*sorted(Path(folder, "train").glob("*.jsonl")), Path(folder, "scitldr-train.jsonl")]
        )
        for path in files:
            share = 1.0 if held_out else SHARES[path.stem]
            if share == 0:
                continue
            for line in open(path):
                row = json.loads(line)
                document = row["document"].strip()
                kind = row["task"]
                entry = self.documents.setdefault((kind, document), [share, []])
                references = [text.strip() for text in row.get("references") or []] or [REFUSAL]
                if kind == "summarize" and not held_out:
                    references = [text for text in references if not invented(document, text)]
                    if not references:
                        continue
                entry[1].append((row.get("question"), row.get("query"), references))
                if not held_out:
                    self.copied[(kind, document)] = COPIED.get(path.stem, 0)

        self.documents = {key: entry for key, entry in self.documents.items() if entry[1]}

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def prefix(self, document):
        return [self.tokenizer.opening, *self.encode("user\n" + document)]

    def request(self, asked, written):
        opening, closing = self.tokenizer.opening, self.tokenizer.closing
        head = [*self.encode(asked), closing, *self.encode("\n"), opening, *self.encode("assistant\n")]
        return Request([*head, *self.encode(written), closing], len(head))

    def items(self, key, chooser, most=12):
        """A document with what is asked about it, and each question that is put to its nearest sentences alone."""
        kind, document = key
        rows = list(self.documents[key][1])
        chooser.shuffle(rows)
        requests, alone = [], []
        for question, focus, references in rows[:most]:
            if references == [REFUSAL] and chooser.random() < self.spared and len(rows) > 1:
                continue
            if kind == "answer":
                asked, written = f"\n\nQuestion: {question.strip()}", references[0]
                read = evidence(document, question) if chooser.random() < self.near else document
                # A question whose answer is not in them is put to the whole document.
                if read != document and (written == REFUSAL or written.lower() in read.lower()):
                    alone.append(Item(kind, self.prefix(read), [self.request(asked, written)]))
                    continue
            else:
                written = chooser.choice(references)
                many = chooser.choice([2, 3, 3])
                parts = copied(document, written, many) if chooser.random() < self.copied.get(key, 0) else None
                if parts:
                    written, asked = parts, f"\n\nSummarize in {many} sentences."
                else:
                    asked = "\n\n" + wordings(written, focus, chooser)
            requests.append(self.request(asked, written))
        return [*([Item(kind, self.prefix(document), requests)] if requests else []), *alone]

    def rounds(self, chooser, rows, answers=0.5):
        """Batches of items of about one length with about `rows` rows, without end; `answers` is their share of the
        rows."""
        queues = {"answer": [], "summarize": []}
        spent = {"answer": 0, "summarize": 0}
        while True:
            total = sum(spent.values()) or 1
            kind = "answer" if spent["answer"] / total < answers else "summarize"
            if not queues[kind]:
                keys = [
                    key for key, (share, _) in self.documents.items() if key[0] == kind and chooser.random() < share
                ]
                chooser.shuffle(keys)
                # Length decides the order only within a stretch, so that batches differ from round to round.
                stretches = [keys[i : i + 256] for i in range(0, len(keys), 256)]
                for stretch in stretches:
                    items = [
                        item for key in stretch for item in self.items(key, chooser) if len(item.prefix) <= self.longest
                    ]
                    items.sort(key=lambda item: len(item.prefix))
                    batches, batch, count = [], [], 0
                    for item in items:
                        own = len(item.prefix) + sum(len(request.tokens) for request in item.requests)
                        if batch and count + own > rows:
                            batches.append(batch)
                            batch, count = [], 0
                        batch.append(item)
                        count += own
                    batches.append(batch)
                    chooser.shuffle(batches)
                    queues[kind] += batches
            batch = queues[kind].pop()
            spent[kind] += sum(len(item.prefix) + sum(len(r.tokens) for r in item.requests) for item in batch)
            yield batch
