"""Writes Tests/TensorKernelsTests/DequantizeFixtures.swift: random blocks of every format and what the PyPI package
`gguf` decodes them to. Run from the package's root: python3 Tests/Scripts/make_dequantize_fixtures.py"""

import base64

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

# Offsets of the half-precision scales and minima in a block; the other bytes may take any value.
HALVES = {
    "F32": [],
    "F16": [0],
    "BF16": [],
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
    "Q2_K": [80, 82],
    "Q3_K": [108],
    "IQ4_NL": [0],
    "IQ4_XS": [0],
    "MXFP4": [],
}

random = np.random.default_rng(7)


def quoted(data):
    text = base64.b64encode(data).decode()
    lines = [text[i : i + 96] for i in range(0, len(text), 96)]
    return '"""\n' + "".join(f"      {line}\n" for line in lines) + '      """'


entries = []
for name, halves in HALVES.items():
    kind = GGMLQuantizationType[name]
    length, size = GGML_QUANT_SIZES[kind]
    count = 32 if length == 1 else 4 if length == 32 else 2
    if name == "F32":
        blocks = random.standard_normal(count).astype("<f4").view(np.uint8).reshape(count, 4)
    elif name == "BF16":
        blocks = random.standard_normal(count).astype("<f4").view(np.uint8).reshape(count, 4)[:, 2:].copy()
    else:
        blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
        for offset in halves:
            values = random.standard_normal(count).astype("<f2") * np.float16(0.1)
            values[0] = np.float16(3e-7)  # subnormal
            blocks[:, offset : offset + 2] = values.astype("<f2").view(np.uint8).reshape(count, 2)
    if name == "MXFP4":
        blocks[:, 0] = [
            0,
            1,
            117,
            252,
        ]  # exponents: the two subnormal ones, a usual one, the largest without an overflow
    data = blocks.reshape(1, -1)
    if name == "F32":
        data = data.view("<f4")
    elif name == "F16":
        data = data.view("<f2")
    floats = np.asarray(dequantize(data, kind), dtype="<f4").reshape(-1)
    assert floats.size == count * length and np.isfinite(floats).all()
    entries.append(
        f"    .init(\n      format: .{name.lower().replace('_k', '_K').replace('_nl', '_NL').replace('_xs', '_XS')},\n"
        f"      blocks: {quoted(blocks.tobytes())},\n      floats: {quoted(floats.tobytes())}),"
    )

with open("Tests/TensorKernelsTests/DequantizeFixtures.swift", "w") as output:
    output.write(
        "import TensorKernels\n\n"
        "// Written by Tests/Scripts/make_dequantize_fixtures.py; not to be edited.\n\n"
        "/// Random blocks and what the `gguf` Python package decodes them to, as base64 of little-endian bytes.\n"
        "struct DequantizeFixture: Sendable {\n  var format: BlockFormat\n  var blocks: String\n"
        "  var floats: String\n\n"
        "  static let all: [DequantizeFixture] = [\n" + "\n".join(entries) + "\n  ]\n}\n"
    )
