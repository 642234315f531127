"""Scores of outputs against references and sources."""

import re
import string
from collections import Counter

from rouge_score import rouge_scorer

REFUSAL = "The text does not say."
KINDS = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
SCORER = rouge_scorer.RougeScorer(KINDS, use_stemmer=True)

# A full stop after one of these ends no sentence.
ABBREVIATIONS = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|Gen|Col|Lt|Sgt|Rev|Gov|Sen|Rep|vs|etc|al|e\.g|i\.e|No|Fig|approx|[A-Z])\.)$"
)
BOUNDARY = re.compile(r"(?<=[.!?])[\"'\u201d\u2019)\]]*\s+(?=[\"'\u201c\u2018(\[]?[A-Z0-9])|\n+")


def sentences(text):
    """Sentences of running text; lines of a dialogue are sentences."""
    found, begin = [], 0
    for match in BOUNDARY.finditer(text):
        part = text[begin : match.end()].strip()
        if "\n" not in match.group() and ABBREVIATIONS.search(text[begin : match.start()].rstrip("\"')]")):
            continue
        if part:
            found.append(part)
        begin = match.end()
    rest = text[begin:].strip()
    return [*found, rest] if rest else found


def normalised(text):
    """SQuAD's: lower case, no punctuation, no articles, single spaces."""
    text = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(output, references):
    return max(float(normalised(output) == normalised(reference)) for reference in references)


def token_f1(output, references):
    def one(reference):
        a, b = normalised(output).split(), normalised(reference).split()
        if not a or not b:
            return float(a == b)
        common = sum((Counter(a) & Counter(b)).values())
        return 2 * common / (len(a) + len(b))

    return max(map(one, references))


def rouge(output, references):
    """F1 by kind, each the best of the references."""
    prediction = "\n".join(sentences(output))
    scores = [SCORER.score("\n".join(sentences(reference)), prediction) for reference in references]
    return {kind: max(score[kind].fmeasure for score in scores) for kind in KINDS}


def is_refusal(output):
    return normalised(output) in {normalised(REFUSAL), ""}


def repeats(output):
    """Whether four words in a row come three times or more."""
    words = output.lower().split()
    return any(count >= 3 for count in Counter(zip(*(words[i:] for i in range(4)))).values())


NUMBER = re.compile(r"\d[\d,.]*\d|\d")
NAME = re.compile(r"[A-Z][\w'\u2019-]*")


def facts(output):
    """(numbers, names) of an output. A name is a word with a capital that does not begin a sentence."""
    names = []
    for sentence in sentences(output):
        for match in NAME.finditer(sentence):
            if sentence[: match.start()].strip("\"'\u201c\u2018([ "):
                names.append(match.group())
    # I is no name.
    return NUMBER.findall(output), [name for name in names if name != "I" and not name.startswith("I'")]


def unsupported(output, source):
    """(numbers and names without support, how many there are). Digits must stand in the source, a name as a word of it,
    whatever its case."""
    bare = source.replace(",", "")
    digits = set(NUMBER.findall(source)) | set(NUMBER.findall(bare))
    words = set(re.findall(r"\w+", source.lower()))
    numbers, names = facts(output)
    bad = [n for n in numbers if n not in digits and n.replace(",", "").rstrip(".") not in digits]
    bad += [
        n
        for n in names
        if not all(
            w in words or w.rstrip("s") in words for w in re.findall(r"\w+", re.sub(r"['\u2019]s$", "", n).lower())
        )
    ]
    return bad, len(numbers) + len(names)
