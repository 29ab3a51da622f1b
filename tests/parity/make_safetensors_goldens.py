#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/parity/data/safetensors with the reference implementation.

  types.safetensors      a tensor of every type that torch can write, a scalar and an empty one
  values.safetensors     float tensors with special and random values, each with its f32 values as NAME.f32
  shards/, one/          one model written in shards and as one file, for the writer to repeat byte for byte
  verdicts.json          files (base64) that are sound or spoilt in one way, and whether the library opens them
  versions.json          of the libraries

Usage: make_safetensors_goldens.py OUT_DIRECTORY
"""
import base64
import json
import os
import shutil
import struct
import sys

import huggingface_hub
import safetensors
import safetensors.torch
import torch

TYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E8M0": torch.float8_e8m0fnu, "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz, "I16": torch.int16, "U16": torch.uint16, "F16": torch.float16,
    "BF16": torch.bfloat16, "I32": torch.int32, "U32": torch.uint32, "F32": torch.float32, "C64": torch.complex64,
    "F64": torch.float64, "I64": torch.int64, "U64": torch.uint64, "F4": torch.float4_e2m1fn_x2,
}


def write_types(path):
    tensors = {}
    for name, dtype in TYPES.items():
        width = torch.empty(0, dtype=dtype).element_size()
        raw = torch.arange(6 * width, dtype=torch.uint8) % 2  # 0 and 1 are bytes of every type, bool's too
        tensors[name] = raw.view(dtype).reshape(2, 3)
    tensors["scalar"] = torch.tensor(-1.5)
    tensors["empty"] = torch.zeros(3, 0, 2, dtype=torch.bfloat16)
    tensors["näme \"\\\n\x1f\x7f/🙂"] = torch.tensor([1, 2], dtype=torch.uint8)
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt", "kéy": "line\nbreak \"quoted\" \x01 🙂"})


def write_values(path):
    generator = torch.Generator().manual_seed(1)
    special = torch.tensor([0.0, -0.0, 1.0, -2.5, 65504.0, 6e-8, -6e-5, 1e-40, 3.3895e38, float("inf"),
                            float("-inf"), float("nan")])
    values = torch.cat([special, torch.randn(500, generator=generator),
                        torch.randn(500, generator=generator) * 1e-6])
    tensors = {}
    for name, dtype in {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}.items():
        tensors[name] = values.to(dtype)
        tensors[name + ".f32"] = tensors[name].float().clone()
    safetensors.torch.save_file(tensors, path)


def write_model(out):
    generator = torch.Generator().manual_seed(2)
    tensors = {"model.embed_tokens.weight": torch.randn(20, 8, generator=generator).bfloat16()}
    for layer in range(11):
        tensors[f"model.layers.{layer}.mlp.weight"] = torch.randn(6, 8, generator=generator).bfloat16()
        tensors[f"model.layers.{layer}.norm.weight"] = torch.ones(8)
    tensors["model.norm.weight"] = torch.ones(8)
    tensors["lm_head.weight"] = torch.randn(20, 8, generator=generator).bfloat16()
    for name, limit in {"shards": 600, "one": 10**6}.items():
        shutil.rmtree(f"{out}/{name}", ignore_errors=True)
        os.makedirs(f"{out}/{name}")
        huggingface_hub.save_torch_state_dict(tensors, f"{out}/{name}", max_shard_size=limit,
                                              metadata={"format": "pt"})
    # The order in which the model has them, which the files do not keep.
    with open(f"{out}/order.json", "w") as file:
        json.dump(list(tensors), file, indent=1)
        file.write("\n")


def spoilt_files():
    """Pairs of a name and a file's bytes."""
    def entry(dtype="U8", shape="[4]", offsets="[0,4]"):
        return '{"dtype":"%s","shape":%s,"data_offsets":%s}' % (dtype, shape, offsets)

    def made(header, data=b"abcd", length=None):
        header = header if isinstance(header, bytes) else header.encode()
        return struct.pack("<Q", len(header) if length is None else length) + header + data

    good = '{"t":%s}' % entry()
    yield "good", made(good)
    yield "nothing", made("{}", b"")
    yield "padded", made(good + " \n\t  ")
    yield "space first", made(" " + good)
    yield "bytes behind", made(good + "x")
    yield "nul behind", made(good + "\0")
    yield "no header", made("", b"")
    yield "list", made("[]", b"")
    yield "short length", b"\x02\0\0"
    yield "no bytes", b""
    yield "length beyond", made(good, length=1000)
    yield "length a terabyte", made(good, length=1 << 40)
    yield "length all bits", made(good, length=(1 << 64) - 1)
    yield "640 bytes", made(good.ljust(640))
    yield "not UTF-8", made(b'{"t\xff":' + entry().encode() + b"}")
    yield "lone surrogate", made('{"\\ud800":%s}' % entry())
    yield "escaped name", made('{"\\u0041\\n":%s}' % entry())
    yield "duplicate tensor", made('{"t":%s,"t":%s}' % (entry(), entry()))
    yield "duplicate field", made('{"t":{"dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4]}}')
    yield "unknown field", made('{"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"x":1}}')
    yield "no dtype", made('{"t":{"shape":[4],"data_offsets":[0,4]}}')
    yield "no shape", made('{"t":{"dtype":"U8","data_offsets":[0,4]}}')
    yield "no offsets", made('{"t":{"dtype":"U8","shape":[4]}}')
    yield "tensor null", made('{"t":null}', b"")
    for dtype in ["F31", "u8", "", "BF16 ", "F6_E2M3", "F6_E3M2"]:
        yield f"dtype {dtype!r}", made('{"t":%s}' % entry(dtype))
    yield "six bits", made('{"t":%s}' % entry("F6_E2M3", "[4]", "[0,3]"), b"abc")
    yield "six bits left", made('{"t":%s}' % entry("F6_E2M3", "[3]", "[0,3]"), b"abc")
    yield "four bits left", made('{"t":%s}' % entry("F4", "[7]", "[0,4]"))
    for shape in ["4", "null", "[]", "[2,2]", "[-4]", "[4.0]", "[\"4\"]", "[[4]]", "[3]", "[5]", "[0]", "[4,1,1,1]",
                  "[18446744073709551615]", "[18446744073709551616]", "[4294967296,4294967296,0]"]:
        yield f"shape {shape}", made('{"t":%s}' % entry(shape=shape))
    for offsets in ["[0]", "[0,4,4]", "[4,0]", "[1,5]", "[0,5]", "[-1,3]", "[0,4.0]", "{}", "null",
                    "[0,18446744073709551615]", "[18446744073709551615,3]"]:
        yield f"offsets {offsets}", made('{"t":%s}' % entry(offsets=offsets))
    yield "data behind", made(good, b"abcde")
    yield "data short", made(good, b"abc")
    two = '{"a":%s,"b":%s}'
    yield "two", made(two % (entry(shape="[1]", offsets="[0,1]"), entry(shape="[3]", offsets="[1,4]")))
    yield "two turned", made(two % (entry(shape="[1]", offsets="[3,4]"), entry(shape="[3]", offsets="[0,3]")))
    yield "overlap", made(two % (entry(shape="[2]", offsets="[0,2]"), entry(shape="[3]", offsets="[1,4]")))
    yield "hole", made(two % (entry(shape="[1]", offsets="[0,1]"), entry(shape="[2]", offsets="[2,4]")))
    yield "same bytes", made(two % (entry(), entry()))
    yield "empty between", made(two % (entry(shape="[0]", offsets="[0,0]"), entry()))
    yield "empty within", made(two % (entry(shape="[0]", offsets="[2,2]"), entry()))
    yield "empty at the end", made(two % (entry(shape="[0]", offsets="[4,4]"), entry()))
    yield "unaligned", made(two % (entry(shape="[1]", offsets="[0,1]"), entry("F32", "[1]", "[1,5]")), b"abcde")
    for metadata in ["{}", "null", "[]", '{"a":1}', '{"a":null}', '{"a":{}}', '{"a":"b"}', '{"a":"b","a":"c"}', '""']:
        yield f"metadata {metadata}", made('{"__metadata__":%s,"t":%s}' % (metadata, entry()))
    yield "metadata twice", made('{"__metadata__":{},"__metadata__":{},"t":%s}' % entry())
    yield "deep", made('{"t":' + "[" * 500)
    yield "trailing comma", made('{"t":%s,}' % entry())
    yield "comment", made('{/* */"t":%s}' % entry())
    yield "infinity", made('{"t":%s}' % entry(shape="[Infinity]"))
    yield "pickle", b"\x80\x02}q\0."
    yield "zip", b"PK\x03\x04" + bytes(30)


def opens(data):
    try:
        safetensors.deserialize(data)
        return True
    except safetensors.SafetensorError:
        return False


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    write_types(f"{out}/types.safetensors")
    write_values(f"{out}/values.safetensors")
    write_model(out)
    verdicts = [{"name": name, "opens": opens(data), "file": base64.b64encode(data).decode()}
                for name, data in spoilt_files()]
    with open(f"{out}/verdicts.json", "w") as file:
        json.dump({"files": verdicts}, file, indent=0)
        file.write("\n")
    with open(f"{out}/versions.json", "w") as file:
        json.dump({"safetensors": safetensors.__version__, "torch": torch.__version__,
                   "huggingface_hub": huggingface_hub.__version__}, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
