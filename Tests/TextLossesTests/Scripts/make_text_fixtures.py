"""Writes ../Fixtures/text-losses.json: scores of rouge-score, sacrebleu and the SQuAD definition on short texts.

Usage: make_text_fixtures.py SCITLDR.jsonl XQUAD.jsonl (documents with references, one JSON object a line).
Needs rouge-score and sacrebleu. The texts kept are sentences of SciTLDR abstracts (Apache-2.0) and answers of XQuAD
(CC BY-SA 4.0), and made-up ones for the corners.
"""

import collections
import json
import os
import random
import re
import string
import sys
from pathlib import Path

import sacrebleu
from nltk.stem import porter
from rouge_score import rouge_scorer

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "Scripts"))
from egress_tools import read_lines

plain = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=False)
stemmed = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=True)


def normalize(s):
    s = "".join(ch for ch in s.lower() if ch not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", s).split())


def f1(a, b):
    x, y = normalize(a).split(), normalize(b).split()
    same = sum((collections.Counter(x) & collections.Counter(y)).values())
    return 0.0 if same == 0 else 2 * same / (len(x) + len(y))


def levenshtein(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a):
        last, row[0] = row[0], i + 1
        for j, y in enumerate(b):
            last, row[j + 1] = row[j + 1], min(last + (x != y), row[j] + 1, row[j + 1] + 1)
    return row[-1]


def case(prediction, references):
    r, s = plain.score_multi(references, prediction), stemmed.score_multi(references, prediction)

    def longest(ref):
        return max(len(prediction), len(ref), 1)

    return {
        "prediction": prediction,
        "references": references,
        "rouge": [r[k].fmeasure for k in ("rouge1", "rouge2", "rougeL", "rougeLsum")],
        "rougeStem": [s[k].fmeasure for k in ("rouge1", "rouge2", "rougeL", "rougeLsum")],
        "f1": max(f1(prediction, ref) for ref in references),
        "em": max(float(normalize(prediction) == normalize(ref)) for ref in references),
        "bleu": sacrebleu.sentence_bleu(prediction, references).score / 100,
        "chrf": sacrebleu.sentence_chrf(prediction, references).score / 100,
        "edit": min(levenshtein(prediction, ref) / longest(ref) for ref in references),
    }


def main():
    rng = random.Random(5)
    cases = []
    papers = read_lines(sys.argv[1])
    for paper in rng.sample(papers, 45):
        sentences = re.split(r"(?<=[.!?]) ", paper["document"])
        prediction = rng.choice(sentences)[:260]
        if rng.random() < 0.4:
            prediction = "\n".join(rng.sample(sentences, min(2, len(sentences))))[:320]
        cases.append(case(prediction, [ref[:260] for ref in paper["references"][:3]]))
    answers = read_lines(sys.argv[2])
    for answer in rng.sample(answers, 30):
        reference = answer["references"][0]
        words = reference.split()
        prediction = rng.choice(
            [
                reference.upper(),
                "The " + reference + ".",
                " ".join(words[1:]) or "no",
                reference + ", maybe",
                " ".join(reversed(words)),
                rng.choice(answers)["references"][0],
            ]
        )
        cases.append(case(prediction, answer["references"]))
    made_up = [
        ("", ["something"]),
        ("something", [""]),
        ("the the the the", ["the cat sat on the mat"]),
        ("The U.S. economy grew 3.5%, to $1,234.50 in Q1-2020.", ["U.S. economy grew by 3.5 %, $1,234.50 in Q1-2020"]),
        ('He said: "don\'t" -- and left...', ["he said 'do not', and left."]),
        ("a&amp;b &lt;c&gt; &quot;d&quot;", ['a&b <c> "d"']),
        ("Größe über 5–6 mm, naïve café", ["Grösse ueber 5-6 mm; naive cafe"]),
        ("日本語 のテスト", ["日本語のテスト"]),
        ("1990-1995", ["1990 - 1995"]),
        ("a.b,c..d,,e", ["a . b , c . . d"]),
        ("re-\nsult of the\nline", ["result of the line"]),
        ("An answer", ["answer"]),
        ("the", ["a"]),
        ("x", ["x"]),
        ("one two three", ["one two three"]),
        ("police killed the gunman\nthe gunman ended", ["police ended the gunman\nthe gunman police killed"]),
        ("w1 w2 w3 w4 w5", ["w1 w2 w6 w7 w8", "w1 w3 w8 w9 w5"]),
        ("flying dying lies happily rationally geology", ["fly die lie happy rational geologies"]),
        ("words, words — and a–b the–c", ["word words and ab c"]),
        ("semi_colon_words the_end", ["semi colon words the end"]),
        ("short", ["a rather longer reference text of many words"]),
        ("a rather longer prediction text of many words", ["short", "a longer prediction"]),
    ]
    cases += [case(p, r) for p, r in made_up]

    words = {
        "caresses",
        "ponies",
        "ties",
        "caress",
        "cats",
        "feed",
        "agreed",
        "plastered",
        "bled",
        "motoring",
        "sing",
        "conflated",
        "troubled",
        "sized",
        "hopping",
        "tanned",
        "falling",
        "hissing",
        "fizzed",
        "failing",
        "filing",
        "happy",
        "sky",
        "relational",
        "conditional",
        "rational",
        "valenci",
        "hesitanci",
        "digitizer",
        "conformabli",
        "radicalli",
        "differentli",
        "vileli",
        "analogousli",
        "vietnamization",
        "predication",
        "operator",
        "feudalism",
        "decisiveness",
        "hopefulness",
        "callousness",
        "formaliti",
        "sensitiviti",
        "sensibiliti",
        "triplicate",
        "formative",
        "formalize",
        "electriciti",
        "electrical",
        "hopeful",
        "goodness",
        "revival",
        "allowance",
        "inference",
        "airliner",
        "gyroscopic",
        "adjustable",
        "defensible",
        "irritant",
        "replacement",
        "adjustment",
        "dependent",
        "adoption",
        "homologou",
        "communism",
        "activate",
        "angulariti",
        "homologous",
        "effective",
        "bowdlerize",
        "probate",
        "rate",
        "cease",
        "controll",
        "roll",
        "skies",
        "dying",
        "lying",
        "news",
        "innings",
        "proceed",
        "enjoy",
        "enjoyment",
        "spied",
        "died",
        "flies",
        "fly",
        "geology",
        "theology",
        "archaeology",
        "hopefully",
        "carefully",
        "generally",
        "radically",
        "syzygy",
        "toy",
        "yyyy",
        "sayings",
        "being",
        "used",
        "eyes",
        "owned",
        "oats",
        "ivy",
    }
    for paper in papers[:120]:
        words.update(w for w in re.findall(r"[a-z]{4,}", paper["document"].lower()) if len(w) > 6)
    stemmer = porter.PorterStemmer()
    stems = {w: stemmer.stem(w) for w in [*sorted(words)[::2], "syzygy", "yyyy", "died", "flies"]}

    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "..", "Fixtures", "text-losses.json"), "w") as f:
        json.dump({"cases": cases, "stems": stems}, f, ensure_ascii=False, separators=(",", ":"))


if __name__ == "__main__":
    main()
