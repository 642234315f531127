"""Writes the model of a run of train_reader.py, what it differs in from the model that everybody has, and the maps of
its exits.

    python export_reader.py --model BASE.gguf --run RUN --whole WHOLE.gguf --delta NAME.delta --maps MAPS.safetensors

BASE is the published model: a run that began from another is written against BASE all the same. The layout of a delta
stands in Sources/Checkpoints/FileDelta.swift.
"""

import argparse
import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from checkpoint import BLOCK
from gguf import GGUFReader
from safetensors.torch import save_file

NAME = "SmolLM2 135M Reader"
# What the program knows the prompts by.
METADATA = {"egress.prompts": "reader"}


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def reframed(data, reader):
    """[(offset, length) of the base | bytes] that make the file with another name and more metadata."""
    name = reader.fields["general.name"]
    start = name.offset + len(string("general.name")) + 4
    end = start + len(string(name.contents()))
    infos = reader.tensors[0].field.offset
    last = reader.tensors[-1].field
    infos_end = last.offset + sum(part.nbytes for part in last.parts)
    (count,) = struct.unpack_from("<Q", data, 16)
    more = b"".join(string(key) + struct.pack("<I", 8) + string(value) for key, value in METADATA.items())
    own = len(string(NAME)) - (end - start) + len(more)
    padding = -(infos_end + own) % reader.alignment
    return [
        (0, 16),
        struct.pack("<Q", count + len(METADATA)),
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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--run", required=True, type=Path)
    parser.add_argument("--begin", type=Path, help="the model that the run began from, if that was another")
    parser.add_argument("--whole", required=True, type=Path)
    parser.add_argument("--delta", required=True, type=Path)
    parser.add_argument("--maps", required=True)
    arguments = parser.parse_args()
    base = arguments.model.read_bytes()
    reader = GGUFReader(arguments.model)
    begin = GGUFReader(arguments.begin or arguments.model)
    saved = torch.load(arguments.run / "checkpoint.pt")
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
    segments = reframed(base, reader)
    whole = b"".join(s if isinstance(s, bytes) else bytes(changed[s[0] : s[0] + s[1]]) for s in segments)
    arguments.whole.write_bytes(whole)
    data, count = delta(base, whole, segments)
    arguments.delta.write_bytes(data)
    # Rows are inputs there.
    save_file({f"map.{layer}": value.T.contiguous() for layer, value in saved["maps"].items()}, arguments.maps)
    print(f"{len(whole)} bytes, sha256 {hashlib.sha256(whole).hexdigest()}")
    print(
        f"{count} codes changed, {count / sum(t.n_elements for t in reader.tensors):.4f}; the delta {len(data)} bytes"
    )


if __name__ == "__main__":
    main()
