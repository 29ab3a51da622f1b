#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a Llama with random weights as GGUF, for bench_step and llama.cpp alike (q4_0: llama.cpp alone). Speed does not
depend on the values.
Needs numpy and gguf. The vocabulary is a stand-in of the SentencePiece kind."""

import argparse

import gguf
import numpy as np
from gguf.quants import quantize

TYPES = {
    "f32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "bf16": (gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "q4_0": (gguf.GGMLQuantizationType.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0),
}


def add_vocabulary(writer, size):
    kinds = gguf.TokenType
    tokens = [(b"<unk>", kinds.UNKNOWN), (b"<s>", kinds.CONTROL), (b"</s>", kinds.CONTROL)]
    tokens += [(f"<0x{byte:02X}>".encode(), kinds.BYTE) for byte in range(256)]
    tokens += [(f"t{i}".encode(), kinds.NORMAL) for i in range(size - len(tokens))]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([token for token, _ in tokens])
    writer.add_token_scores([-float(i) for i in range(size)])
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)


def shapes(args):
    head_dim = args.dim // args.heads
    kv = args.kv_heads * head_dim
    yield "token_embd.weight", (args.vocab, args.dim)
    yield "output_norm.weight", (args.dim,)
    yield "output.weight", (args.vocab, args.dim)
    for layer in range(args.layers):
        yield f"blk.{layer}.attn_norm.weight", (args.dim,)
        yield f"blk.{layer}.attn_q.weight", (args.dim, args.dim)
        yield f"blk.{layer}.attn_k.weight", (kv, args.dim)
        yield f"blk.{layer}.attn_v.weight", (kv, args.dim)
        yield f"blk.{layer}.attn_output.weight", (args.dim, args.dim)
        yield f"blk.{layer}.ffn_norm.weight", (args.dim,)
        yield f"blk.{layer}.ffn_gate.weight", (args.intermediate, args.dim)
        yield f"blk.{layer}.ffn_up.weight", (args.intermediate, args.dim)
        yield f"blk.{layer}.ffn_down.weight", (args.dim, args.intermediate)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("--type", choices=sorted(TYPES), default="bf16")
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=22)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--kv-heads", type=int, default=4)
    parser.add_argument("--intermediate", type=int, default=5632)
    parser.add_argument("--vocab", type=int, default=32000)
    parser.add_argument("--context", type=int, default=4096)
    args = parser.parse_args()
    matrix_type, file_type = TYPES[args.type]
    writer = gguf.GGUFWriter(args.out, "llama", use_temp_file=True)
    writer.add_name("random")
    writer.add_file_type(file_type)
    writer.add_context_length(args.context)
    writer.add_embedding_length(args.dim)
    writer.add_block_count(args.layers)
    writer.add_feed_forward_length(args.intermediate)
    writer.add_head_count(args.heads)
    writer.add_head_count_kv(args.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(args.dim // args.heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(args.vocab)
    add_vocabulary(writer, args.vocab)
    rng = np.random.default_rng(1)
    for name, shape in shapes(args):
        if len(shape) == 1:
            writer.add_tensor(name, np.ones(shape, dtype=np.float32))
            continue
        values = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
        writer.add_tensor(name, quantize(values, matrix_type), raw_dtype=matrix_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
