"""Writes the model of a run of train_reader.py, what it differs in from the model that everybody has, and the maps of
its exits.

    python export_reader.py --model BASE.gguf --run RUN --whole WHOLE.gguf --delta NAME.delta --maps MAPS.safetensors
    python export_reader.py --model BASE.gguf --codes READER.gguf --answerability answerability.json \
        --whole WHOLE.gguf --delta NAME.delta

The second takes the codes of a model that was written before. `--answerability` adds what `fit_answerability.py` wrote.

BASE is the published model: a run that began from another is written against BASE all the same. The layout of a delta
stands in Sources/Checkpoints/FileDelta.swift.
"""

import argparse
import hashlib
import json
import struct
import zlib
from pathlib import Path

import numpy as np
from gguf import GGUFReader

NAME = "SmolLM2 135M Reader"
# What the program knows the prompts by.
METADATA = {"egress.prompts": "reader"}
# Type numbers of GGUF.
UINT32, FLOAT32, STRING, ARRAY = 4, 6, 8, 9


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def pair(key, value):
    """A key of the metadata with its value."""
    if isinstance(value, str):
        data = struct.pack("<I", STRING) + string(value)
    elif isinstance(value, int):
        data = struct.pack("<II", UINT32, value)
    elif isinstance(value, float):
        data = struct.pack("<If", FLOAT32, value)
    else:
        data = struct.pack("<IIQ", ARRAY, FLOAT32, len(value)) + np.array(value, "<f4").tobytes()
    return string(key) + data


def reframed(data, reader, metadata):
    """[(offset, length) of the base | bytes] that make the file with another name and more metadata."""
    name = reader.fields["general.name"]
    start = name.offset + len(string("general.name")) + 4
    end = start + len(string(name.contents()))
    infos = reader.tensors[0].field.offset
    last = reader.tensors[-1].field
    infos_end = last.offset + sum(part.nbytes for part in last.parts)
    (count,) = struct.unpack_from("<Q", data, 16)
    more = b"".join(pair(key, value) for key, value in metadata.items())
    own = len(string(NAME)) - (end - start) + len(more)
    padding = -(infos_end + own) % reader.alignment
    return [
        (0, 16),
        struct.pack("<Q", count + len(metadata)),
        (24, start - 24),
        string(NAME),
        (end, infos - end),
        more,
        (infos, infos_end - infos),
        bytes(padding),
        (reader.data_offset, len(data) - reader.data_offset),
    ]


def delta(base, result, segments):
    """A delta from `base` to `result`, which differs from the base's `segments` in nibbles."""
    plain = b"".join(s if isinstance(s, bytes) else base[s[0] : s[0] + s[1]] for s in segments)
    assert len(plain) == len(result)
    old, new = np.frombuffer(plain, np.uint8), np.frombuffer(result, np.uint8)
    places = np.flatnonzero(old != new)
    low = ((new[places] & 15).astype(int) - (old[places] & 15)) % 16
    high = ((new[places] >> 4).astype(int) - (old[places] >> 4)) % 16
    nibbles = np.stack([2 * places, 2 * places + 1], -1).ravel()
    differences = np.stack([low, high], -1).ravel()
    nibbles, differences = nibbles[differences != 0], differences[differences != 0]
    gaps = np.diff(nibbles, prepend=-1) - 1
    counts = gaps // 255
    stream = np.full(counts.sum() + len(gaps), 255, np.uint8)
    stream[np.cumsum(counts + 1) - 1] = gaps % 255
    if len(differences) % 2:
        differences = np.append(differences, 0)
    packed = (differences[0::2] | differences[1::2] << 4).astype(np.uint8)
    parts = [zlib.compress(stream.tobytes(), 9), zlib.compress(packed.tobytes(), 9)]
    head = b"EGRDELTA" + struct.pack("<I", 1)
    for file in (base, result):
        head += struct.pack("<Q", len(file)) + hashlib.sha256(file).digest()
    head += struct.pack("<I", len(segments))
    for s in segments:
        head += struct.pack("<BQ", 1, len(s)) + s if isinstance(s, bytes) else struct.pack("<BQQ", 0, *s)
    head += struct.pack("<QQQQ", len(nibbles), len(stream), *map(len, parts))
    return head + b"".join(parts), len(nibbles)


def trained(base, reader, begin, run, maps):
    """The base's bytes with the codes of a run, whose maps are written."""
    import torch
    from checkpoint import BLOCK
    from safetensors.torch import save_file

    saved = torch.load(run / "checkpoint.pt")
    changed = bytearray(base)
    for tensor, origin in zip(reader.tensors, begin.tensors):
        assert tensor.name == origin.name and tensor.n_bytes == origin.n_bytes
        raw = np.array(origin.data)
        if tensor.name in saved["movers"]:
            blocks = raw.reshape(raw.shape[0], -1, 4 + BLOCK // 2)
            scale = torch.from_numpy(blocks[..., :2].copy().view(np.float16).astype(np.float32))
            inverse = 1 / torch.where(scale.abs() < 1e-8, torch.full_like(scale, 1e8), scale)
            codes = (saved["movers"][tensor.name] * inverse).round().clamp(0, 15).numpy().astype(np.uint8)
            blocks[..., 4:] = codes[..., : BLOCK // 2] | codes[..., BLOCK // 2 :] << 4
        changed[tensor.data_offset : tensor.data_offset + tensor.n_bytes] = raw.tobytes()
    # Rows are inputs there.
    save_file({f"map.{layer}": value.T.contiguous() for layer, value in saved["maps"].items()}, maps)
    return changed


def copied(base, reader, codes):
    """The base's bytes with the codes of another file of the same tensors."""
    changed = bytearray(base)
    for tensor, origin in zip(reader.tensors, codes.tensors):
        assert tensor.name == origin.name and tensor.n_bytes == origin.n_bytes
        changed[tensor.data_offset : tensor.data_offset + tensor.n_bytes] = np.array(origin.data).tobytes()
    return changed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, type=Path)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path)
    source.add_argument("--codes", type=Path, help="a model to take the codes of")
    parser.add_argument("--begin", type=Path, help="the model that the run began from, if that was another")
    parser.add_argument("--answerability", type=Path)
    parser.add_argument("--whole", required=True, type=Path)
    parser.add_argument("--delta", required=True, type=Path)
    parser.add_argument("--maps", help="where the maps of a run go")
    arguments = parser.parse_args()
    base = arguments.model.read_bytes()
    reader = GGUFReader(arguments.model)
    if arguments.run:
        begin = GGUFReader(arguments.begin or arguments.model)
        changed = trained(base, reader, begin, arguments.run, arguments.maps)
    else:
        changed = copied(base, reader, GGUFReader(arguments.codes))
    metadata = dict(METADATA)
    if arguments.answerability:
        for key, value in json.loads(arguments.answerability.read_text()).items():
            metadata[f"egress.answerability.{key}"] = value
    segments = reframed(base, reader, metadata)
    whole = b"".join(s if isinstance(s, bytes) else bytes(changed[s[0] : s[0] + s[1]]) for s in segments)
    arguments.whole.write_bytes(whole)
    data, count = delta(base, whole, segments)
    arguments.delta.write_bytes(data)
    print(f"{len(whole)} bytes, sha256 {hashlib.sha256(whole).hexdigest()}")
    print(
        f"{count} codes changed, {count / sum(t.n_elements for t in reader.tensors):.4f}; the delta {len(data)} bytes"
    )


if __name__ == "__main__":
    main()
