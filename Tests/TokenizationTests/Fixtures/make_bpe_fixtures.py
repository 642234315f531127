"""Trains four tiny byte-level BPE vocabularies and records what the reference implementation makes of many texts.

Needs the Python package tokenizers (0.23). Run it in this folder; the output is committed.
"""

import json
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

MODERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def split(pattern):
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


PRESETS = {
    "gpt2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "llama3": lambda: split(MODERN % r"\p{N}{1,3}"),
    "qwen2": lambda: split(MODERN % r"\p{N}"),
}

CORPUS = """The quick brown fox jumps over the lazy dog, and it's the dog's own fault: they've said we'll see, I'm sure he'd go.
In 1999 and 2024 there were 1,234,567 of them; 3.14159 is close to pi. He can't, she won't, we're not there.
def encode(text):\n    for word in words:\n        yield word  # nothing else\n\n\n    return None\r\n\r\n\tx = y
Der schnelle braune Fuchs springt über den faulen Hund. Élève, naïve café, déjà vu, señor, ångström, Straße.
Привет, мир! Съешь же ещё этих мягких французских булок, да выпей чаю. Το γρήγορο καφέ. שלום עולם. مرحبا بالعالم
日本語のテキストと中文文本。你好,世界!안녕하세요 세계. ไทยภาษา हिन्दी भाषा தமிழ்
😀😀👩‍👩‍👧‍👦🇳🇱 ½ ² Ⅻ ٣٤٥ ४५६ a\u0301e\u0308 <b>tags</b> {"a": [1, 2.5e-3, null]} $x_{i+1} := ~y^2;$
"""

TEXTS = [
    "",
    " ",
    "  ",
    "   ",
    "\n",
    "\r\n",
    " \n",
    "\n ",
    "\t",
    " \t ",
    "a",
    " a",
    "a ",
    "  a",
    "a  b",
    "a   b   ",
    "\n\n\na",
    " \n\n  a",
    "a\r\nb\r\n\r\n  c",
    "\u00a0a",
    " \u00a0a",
    "a\u2003\u2003b",
    "a\u200bb",
    "\u3000\u3000日本",
    "\u0085x",
    "\u180ex",
    "a\u2028b",
    "it's we'll they've I'm he'd you're can't",
    "IT'S WE'LL THEY'VE I'M HE'D YOU'RE CAN'T",
    "'s't're've'm'll'd",
    "'S'T'RE'VE'M'LL'D",
    "'ſ 'ſx ſ's",
    "' s",
    "''s",
    "'",
    "''",
    "x'",
    "'sx",
    "'x",
    "l'l 'l 'r 'v 'R 'V 're're",
    "don’t",
    "1",
    "12",
    "123",
    "1234",
    "12345",
    "1234567",
    " 1234567",
    "a1b22c333d4444",
    "1 2  3   4",
    "1\n2",
    "½²Ⅻ٣٤٥४५६",
    " ½",
    "  12",
    "12  ",
    "3.14159",
    "1,000,000",
    "-1",
    "1e-9",
    "x1y",
    "²x",
    "²²²²x",
    "!",
    "!!",
    " !",
    "  !",
    "!a",
    "!!a",
    " !a",
    "a!",
    "a!\n",
    "!\n",
    "!\n\n",
    "!\r\n a",
    "!!!\n\n\nfoo",
    "...\r\r\n\n x",
    ".\t\n",
    "(a)",
    " (a)",
    "\t(a)",
    "\ta",
    "\t\ta",
    "\n\ta",
    " \n\ta",
    "<|endoftext|>",
    "<|im_start|>user\nhi<|im_end|>\n",
    "<|im_start|",
    "a<|im_end|><|im_end|>b",
    "Привет, мир",
    "ПРИВЕТ",
    "日本語のテキスト",
    "你好,世界!",
    "안녕하세요",
    "שלום עולם",
    "مرحبا",
    "हिन्दी",
    "ไทยภาษา",
    "a\u0301e\u0308 combining",
    "\u0301",
    " \u0301a",
    "a\u0301\u0302",
    "😀",
    "😀😀 x",
    "👩‍👩‍👧‍👦🇳🇱",
    " 😀a",
    "a😀1",
    "\ufe0f",
    "\ue000",
    "\U000e0100",
    "\U0002f800",
    "\U000323af",
    "\U000323b0x",
    "\U00010400",
    "ǅ ʰ ª º",
    "_a",
    "a_b",
    "__init__",
    "a+b=c",
    "$x",
    "x^2",
    '{"a": [1, 2.5e-3, null]}',
    "ALLCAPS MiXeD cAsE",
    "unreachable unreachable",
    "x" * 40,
    "ab" * 40,
    " " * 70,
    "\n" * 70,
    "1" * 70,
    "!" * 70,
    "é" * 40,
    "the" * 30,
    "The quick brown fox jumps over the lazy dog.",
    "def f(x):\n    return x**2  # comment\n",
    "naïve café déjà vu",
    "\x00\x01\x7f",
]

ALPHABET = list("aAbzstmdrevl'  \t\n\r.,!<|>_0123½²éßſжЖ日の\u00a0\u2003\u3000\u0301\u200d😀\u200b\u0085'")


def random_texts(count):
    generator = random.Random(20)
    words = CORPUS.split(" ")
    for _ in range(count):
        yield "".join(generator.choice(ALPHABET) for _ in range(generator.randrange(1, 24)))
    for _ in range(count // 4):
        yield " ".join(generator.choice(words) for _ in range(generator.randrange(1, 9)))
    for _ in range(count // 4):
        yield "".join(
            chr(
                generator.choice(
                    [
                        generator.randrange(0x20, 0x2000),
                        generator.randrange(0x2000, 0xD800),
                        generator.randrange(0xE000, 0x20000),
                        generator.randrange(0x20000, 0x110000),
                    ]
                )
            )
            for _ in range(generator.randrange(1, 12))
        )


def main():
    texts = TEXTS + list(random_texts(200))
    cases = [{"text": text} for text in texts]
    for name, make in PRESETS.items():
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = make()
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.train_from_iterator(
            [CORPUS] * 3,
            trainers.BpeTrainer(
                vocab_size=640,
                min_frequency=2,
                show_progress=False,
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
            ),
        )
        tokenizer.add_tokens([AddedToken("␠␠", special=False, normalized=False)])
        saved = json.loads(tokenizer.to_str())
        # A word that no merges lead to: only a tokenizer that ignores merges finds it.
        saved["model"]["vocab"]["\u0120unreachable"] = 641
        saved["model"]["ignore_merges"] = name == "llama3"
        if name == "smollm":  # the older spelling of merges
            saved["model"]["merges"] = [" ".join(pair) for pair in saved["model"]["merges"]]
        text = json.dumps(saved, ensure_ascii=name == "qwen2")
        with open(f"{name}.tokenizer.json", "w") as file:
            file.write(text)
        tokenizer = Tokenizer.from_str(text)
        for case in cases:
            case[name] = {
                "ids": tokenizer.encode(case["text"], add_special_tokens=False).ids,
                "words": word_lengths(tokenizer.pre_tokenizer, case["text"]),
            }
    with open("bpe_golden.json", "w") as file:
        file.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


def word_lengths(pre_tokenizer, text):
    return [len(text[start:end].encode()) for _, (start, end) in pre_tokenizer.pre_tokenize_str(text)]


main()
