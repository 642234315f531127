"""Writes ../Fixtures/text-scalars.json: scores of the same references as make_text_fixtures.py on texts whose scalars
matter.

Python compares scalars: composed and decomposed letters differ, a capital sigma at the end of a word has a small letter
of its own, combining marks are no letters, and four control characters are white space."""

import json
import os

from make_text_fixtures import case

NFC, NFD = "caf\u00e9 na\u00efve r\u00e9sum\u00e9", "cafe\u0301 nai\u0308ve re\u0301sume\u0301"
cases = [
    case(p, r)
    for p, r in [
        (NFC, [NFD]),
        (NFD, [NFC]),
        (NFC, [NFC]),
        (NFD, [NFD]),
        (NFC, [NFD, NFC]),
        ("the " + NFC, [NFC + " one two"]),
        ("\u039f\u0394\u039f\u03a3", ["\u03bf\u03b4\u03bf\u03c2"]),
        ("\u039f\u0394\u039f\u03a3", ["\u03bf\u03b4\u03bf\u03c3"]),
        ("\u039f\u0394\u039f\u03a3\u0301 \u03a3\u03a3 \u03a3", ["\u03bf\u03b4\u03bf\u03c2\u0301 \u03c3\u03c2 \u03c3"]),
        ("A\u03a3.B \u0391\u03a3' x", ["a\u03c3b \u03b1\u03c2 x"]),
        ("a\u0301 an\u0301 the\u0301", ["x"]),
        ("a\u0301 b", ["\u0301 b"]),
        ("\u0915\u093f a\u093f", ["\u0915\u093f \u093f"]),
        ("one\x1ctwo\x1dthree\x1efour\x1ffive", ["one two three four five"]),
        ("one\u00a0two\u2003three\u200bfour\u3000five", ["one two three four five"]),
        ("one\x85two", ["one two"]),
        ("\u0130stanbul I\u0307", ["i\u0307stanbul"]),
        ("\u212aelvin STRA\u1e9eE", ["kelvin stra\u00dfe"]),
        ("\u00df SS", ["ss ss"]),
        ("\uac00\u1100\u1161", ["\u1100\u1161\uac00"]),
        ("\u2460a \u00b2a a\u0660", ["a"]),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467 a", ["\U0001f468 a"]),
    ]
]
here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "..", "Fixtures", "text-scalars.json"), "w") as f:
    json.dump({"cases": cases, "stems": {}}, f, ensure_ascii=True, separators=(",", ":"))
