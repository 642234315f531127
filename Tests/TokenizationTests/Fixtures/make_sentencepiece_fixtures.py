"""Trains three tiny SentencePiece models and records what the reference implementations make of many texts.

Needs the Python packages sentencepiece (0.2) and tokenizers (0.23). Run it in this folder; the output is committed.
"""

import json
import os
import random
import tempfile

import sentencepiece
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

CORPUS = """The quick brown fox jumps over the lazy dog, and it is the dog's own fault.
In 1999 and 2024 there were 1,234,567 of them; 3.14159 is close to pi.
Translate English to German: summarize the following text. The house is wonderful and the food was good.
A library for reading and writing files, with tools for the command line. This package contains the documentation.
Der schnelle braune Fuchs springt über den faulen Hund. Das Haus ist wunderbar. Die Straße ist lang.
Le café est très bon, déjà vu, naïve. Привет, мир! Съешь же ещё этих мягких булок.
This package contains the development files. This package contains the shared library and the debugging symbols.
def encode(text): return [piece for piece in text]
"""

# Source and target in hexadecimal: line ends and no-break spaces to spaces, full-width letters, ligatures, accents.
RULES = [
    ("A", "20"),
    ("9", "20"),
    ("D", "20"),
    ("A0", "20"),
    ("3000", "20"),
    ("200B", ""),
    ("FB01", "66 69"),
    ("65 301", "E9"),
    ("61 308", "E4"),
    ("75 308", "FC"),
    ("BD", "31 2044 32"),
]
RULES += [(f"{0xFF21 + i:X}", f"{0x41 + i:X}") for i in range(26)] + [
    (f"{0xFF41 + i:X}", f"{0x61 + i:X}") for i in range(26)
]

MODELS = {
    # As T5: rules, spaces trimmed, no bytes.
    "unigram": dict(model_type="unigram", vocab_size=200, pad_id=0, eos_id=1, unk_id=2, bos_id=-1),
    # As Gemma: no rules, every space kept, bytes, user-defined pieces.
    "unigram_bytes": dict(
        model_type="unigram",
        vocab_size=460,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        byte_fallback=True,
        control_symbols=["<turn>"],
        user_defined_symbols=["<table>", "<start_of_turn>", "\n", "\n\n", "▁▁", "▁▁▁▁"],
    ),
    # As Llama 2: no rules, every space kept, bytes, merges.
    "bpe_bytes": dict(
        model_type="bpe",
        vocab_size=480,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        byte_fallback=True,
    ),
}

TEXTS = [
    "",
    " ",
    "   ",
    "a",
    " a",
    "a ",
    "  a  b  ",
    "The quick brown fox jumps over the lazy dog.",
    "the the the",
    "translate English to German: The house is wonderful.",
    "This package contains the documentation.\n\n\tand more\r\n",
    "\nx",
    "\n\nx",
    "x\n\n\ny",
    "<table>",
    "a<table>b",
    "<start_of_turn>user",
    "<turn>",
    "</s>",
    "<unk>",
    "<pad>",
    "<0x41>",
    "▁",
    "a▁b",
    "▁▁",
    "Straße café déjà vu",
    "cafe\u0301 a\u0308u\u0308",
    "ＡＢＣ ｘｙｚ",
    "ﬁle ½",
    "a\u00a0b\u3000c",
    "a\u200bb",
    "Привет, мир",
    "日本語のテキスト",
    "x日本y",
    "😀👩‍👩‍👧‍👦",
    "1234567890 3.14159",
    '{"a": [1, 2.5e-3, null]} ~<>^\\',
    "\x00\x01",
    "don't",
    "x" * 60,
    "{" * 60,
    "日" * 60,
    " " * 60,
    "the" * 30,
    "In 1999 and 2024",
    "aéb",
    "unknown 語 in the middle 語語 of it",
    "a\u0301",
    "ALL CAPS",
    "<extra_id_0> x <extra_id_1>",
]

ALPHABET = [*list("abdehinorstu  \t\n.,'T<>_1２Ａé́̈\xa0ﬁ½日😀▁"), "the", " the", "package", "ing", "<table>", "\n\n"]


def texts():
    generator = random.Random(4)
    words = CORPUS.split(" ")
    yield from TEXTS
    for _ in range(150):
        yield "".join(generator.choice(ALPHABET) for _ in range(generator.randrange(1, 24)))
    for _ in range(50):
        yield " ".join(generator.choice(words) for _ in range(generator.randrange(1, 9)))


def main():
    cases = [{"text": text} for text in texts()]
    with tempfile.TemporaryDirectory() as folder:
        rules, corpus = os.path.join(folder, "rules.tsv"), os.path.join(folder, "corpus.txt")
        with open(rules, "w") as file:
            file.writelines(f"{source}\t{target}\n" for source, target in RULES)
        with open(corpus, "w") as file:
            file.write(CORPUS * 3)
        for name, options in MODELS.items():
            if "normalization_rule_name" not in options:
                options["normalization_rule_tsv"] = rules
            sentencepiece.SentencePieceTrainer.train(
                input=corpus,
                model_prefix=os.path.join(folder, name),
                character_coverage=1.0,
                minloglevel=2,
                hard_vocab_limit=False,
                **options,
            )
            with open(os.path.join(folder, f"{name}.model"), "rb") as file:
                model = file.read()
            # The folder of the day is of no use to a reader.
            model = anonymous(model)
            with open(f"{name}.model", "wb") as file:
                file.write(model)
            processor = sentencepiece.SentencePieceProcessor(model_proto=model)
            for case in cases:
                ids = processor.encode(case["text"])
                case[name] = {"ids": ids, "decoded": processor.decode(ids)}
                case["tie"] = case.get("tie", False) or ("unigram" in name and has_tie(processor, case["text"]))
    # Versions of the library break ties between segmentations of equal probability in different ways.
    cases = [case for case in cases if not case.pop("tie")]
    write_json(cases)
    with open("sentencepiece_golden.json", "w") as file:
        file.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


def has_tie(processor, text):
    best = processor.nbest_encode_as_proto(text, nbest_size=2).nbests
    if len(best) < 2 or [p.id for p in best[0].pieces] == [p.id for p in best[1].pieces]:
        return False
    return abs(best[0].score - best[1].score) < 1e-3


def anonymous(model):
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    proto.trainer_spec.ClearField("input")
    proto.trainer_spec.ClearField("model_prefix")
    proto.normalizer_spec.ClearField("normalization_rule_tsv")
    return proto.SerializeToString()


def write_json(cases):
    """The unigram model as a tokenizer.json of T5's kind, with two sentinels, and what the library tokenizers makes of
    it."""
    from sentencepiece import sentencepiece_model_pb2

    with open("unigram.model", "rb") as file:
        proto = sentencepiece_model_pb2.ModelProto.FromString(file.read())
    vocabulary = [(piece.piece, piece.score) for piece in proto.pieces]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    tokenizer.normalizer = normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.add_special_tokens(
        [
            AddedToken(text, special=True, normalized=False)
            for text in ("<pad>", "</s>", "<unk>", "<extra_id_1>", "<extra_id_0>")
        ]
    )
    with open("unigram.tokenizer.json", "w") as file:
        file.write(tokenizer.to_str())
    for case in cases:
        case["json"] = tokenizer.encode(case["text"], add_special_tokens=False).ids


main()
