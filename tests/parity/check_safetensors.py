#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks our safetensors files against the reference implementation, in both directions.

  - files of random tensors that it writes: our copy has the same bytes, and it reads that copy
  - weights that we write in shards: transformers' index and shards load to the same tensors
  - mutated files: we open none that it refuses, and name a reason where we refuse what it opens

Usage: check_safetensors.py --tool build/release/tests/safetensors_tool --work DIR [--files N] [--mutants N]
"""
import argparse
import collections
import json
import math
import os
import random
import struct
import subprocess
import sys

import safetensors
import safetensors.torch
import torch

TYPES = [torch.bool, torch.uint8, torch.int8, torch.float8_e5m2, torch.float8_e4m3fn, torch.int16, torch.float16,
         torch.bfloat16, torch.int32, torch.float32, torch.complex64, torch.float64, torch.int64, torch.uint64]
# Where we are stricter than the library: the parts of our messages.
STRICTER = ["duplicate key", "is not dtype, shape or data_offsets", "does not start with '{'", "__metadata__ is null",
            "NUL byte"]


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(
        a.contiguous().view(-1).view(torch.uint8), b.contiguous().view(-1).view(torch.uint8))


def random_tensors(rng):
    tensors = {}
    for _ in range(rng.randint(0, 12)):
        name = "".join(rng.choice("abz.09_\"\\\n é🙂") for _ in range(rng.randint(1, 20)))
        dtype = rng.choice(TYPES)
        shape = [rng.randint(0, 5) for _ in range(rng.randint(0, 4))]
        if dtype == torch.bool:
            tensors[name] = torch.randint(0, 2, shape, dtype=torch.uint8).bool()
        else:
            width = torch.empty(0, dtype=dtype).element_size()
            raw = torch.randint(0, 256, [math.prod(shape) * width], dtype=torch.uint8)
            tensors[name] = raw.view(dtype).reshape(shape)
    return tensors


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True, errors="replace").stdout


def check_copies(tool, work, rng, count):
    for i in range(count):
        tensors = random_tensors(rng)
        theirs, ours = f"{work}/theirs.safetensors", f"{work}/ours.safetensors"
        safetensors.torch.save_file(tensors, theirs, metadata={"format": "pt"} if i % 2 else None)
        run(tool, "copy", theirs, ours)
        with open(theirs, "rb") as a, open(ours, "rb") as b:
            assert a.read() == b.read(), f"our copy of {theirs} differs"
        loaded = safetensors.torch.load_file(ours)
        assert loaded.keys() == tensors.keys()
        assert all(same(loaded[name], tensors[name]) for name in tensors)
    print(f"{count} files of the library: our copies have its bytes")


def check_shards(tool, work, rng):
    tensors = {f"model.layers.{i}.weight": torch.randn(rng.randint(1, 40), 16).bfloat16() for i in range(30)}
    os.makedirs(f"{work}/model", exist_ok=True)
    safetensors.torch.save_file(tensors, f"{work}/model/model.safetensors")
    run(tool, "shard", f"{work}/model", f"{work}/shards", "2000")
    with open(f"{work}/shards/model.safetensors.index.json") as file:
        index = json.load(file)
    shards = sorted(set(index["weight_map"].values()))
    assert len(shards) > 3
    loaded = {}
    for shard in shards:
        part = safetensors.torch.load_file(f"{work}/shards/{shard}")
        assert all(index["weight_map"][name] == shard for name in part)
        loaded.update(part)
    assert loaded.keys() == tensors.keys() == index["weight_map"].keys()
    assert all(same(loaded[name], tensors[name]) for name in tensors)
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in tensors.values())
    print(f"{len(shards)} shards of ours: the library reads the tensors we were given")


def mutate(data, rng):
    length = struct.unpack("<Q", data[:8])[0]
    header, tail = bytearray(data[8:8 + length]), data[8 + length:]
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(header))
        kind = rng.randrange(5)
        if kind == 0:
            header[at] = rng.choice(b'{}[]",:0123456789-.eE tfnFUB\\\0\xff')
        elif kind == 1:
            del header[at:at + rng.randint(1, 8)]
        elif kind == 2:
            header[at:at] = rng.choice([b'"x":1,', b"[", b"{", b"0", b"null", b',"dtype":"U8"', b" ", b"\\u0000"])
        elif kind == 3:
            other = rng.randrange(len(header))
            piece = header[other:other + rng.randint(1, 60)]
            header[at:at] = piece
        elif header[at:at + 1].isdigit():
            header[at] = rng.choice(b"0123456789")
        if not header:
            break
    if rng.random() < 0.05:
        tail = tail[:rng.randint(0, len(tail))]
    length = len(header) if rng.random() < 0.95 else rng.choice([0, 1, 1 << 40, (1 << 64) - 1, len(header) + 1])
    return struct.pack("<Q", length) + bytes(header) + tail


def check_verdicts(tool, work, rng, count):
    both = refused = 0
    reasons = collections.Counter()
    batch = 500
    for start in range(0, count, batch):
        paths, opens = [], []
        for i in range(min(batch, count - start)):
            sound = safetensors.torch.save(random_tensors(rng) or {"t": torch.zeros(2)}, {"format": "pt"})
            data = mutate(sound, rng)
            paths.append(f"{work}/mutant{i}")
            with open(paths[-1], "wb") as file:
                file.write(data)
            try:
                safetensors.deserialize(data)
                opens.append(True)
            except safetensors.SafetensorError:
                opens.append(False)
        verdicts = run(tool, "verdicts", *paths).splitlines()
        assert len(verdicts) == len(paths)
        for path, verdict, theirs in zip(paths, verdicts, opens):
            if verdict == "ok":
                assert theirs, f"we open {path}, the library does not"
                both += 1
            elif theirs:
                reason = next((part for part in STRICTER if part in verdict), None)
                assert reason, f"the library opens {path}, we do not: {verdict}"
                reasons[reason] += 1
            else:
                refused += 1
    assert both > 0 and refused > 0
    print(f"{count} mutants: {both} opened by both, {refused} by none, {sum(reasons.values())} by the library alone: "
          f"{dict(reasons)}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tool", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--mutants", type=int, default=4000)
    args = parser.parse_args()
    os.makedirs(args.work, exist_ok=True)
    rng = random.Random(1)
    torch.manual_seed(1)
    check_copies(args.tool, args.work, rng, args.files)
    check_shards(args.tool, args.work, rng)
    check_verdicts(args.tool, args.work, rng, args.mutants)
    return 0


if __name__ == "__main__":
    sys.exit(main())
