#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/parity/data/architectures: what transformers computes for tiny models of every architecture and kind of
RoPE scaling. Run once, in an environment of requirements.txt; the C++ tests read the files.

  <case>/config.json            as transformers saves it
  <case>/golden.safetensors     ids [80] i32; logits_1 [1, vocab] and logits_17 [17, vocab] of the first tokens alone;
                                positions [n] i32 and logits_80 [n, vocab], those rows of a forward pass over all;
                                metadata "tensors": names and shapes of the state dict
  <case>/gradients.safetensors  loss [1] and the gradients of the named parameters, model.train(), over 40 tokens
  versions.json

The weights are not stored: both sides compute them from their names, see weight().
"""
import argparse
import json
import math
import pathlib
import re
import shutil

import numpy as np
import safetensors.torch
import torch
import transformers

LENGTH = 80
GRADIENT_LENGTH = 40
# Around the original context of 32, the window of 12, and the ends.
POSITIONS = [0, 1, 11, 12, 13, 16, 30, 31, 32, 33, 40, 47, 48, 63, 64, 65, 77, 78, 79]
SIZES = dict(vocab_size=64, hidden_size=32, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, head_dim=16, max_position_embeddings=128, bos_token_id=1, eos_token_id=2)
SHORT = dict(max_position_embeddings=32)  # the original context of what is scaled


def rope(kind, theta=10000.0, **keys):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=theta, **keys))


# name -> (model_type, config arguments, parameters whose gradients are kept: regex)
EVERY = r".*"
VECTORS = r".*(norm\.weight|\.bias|embed_tokens\.weight)"
CASES = {
    "llama": ("llama", dict(rms_norm_eps=1e-5), EVERY),
    "llama_tied": ("llama", dict(tie_word_embeddings=True, **rope("default", 500000.0)), r".*embed_tokens\.weight"),
    "llama_bias": ("llama", dict(attention_bias=True, mlp_bias=True), VECTORS),
    "llama_linear": ("llama", dict(**SHORT, **rope("linear", factor=4.0)), None),
    "llama_dynamic": ("llama", dict(**SHORT, **rope("dynamic", factor=4.0)), VECTORS),
    "llama_yarn": ("llama", dict(**SHORT, **rope("yarn", factor=4.0)), VECTORS),
    "llama_yarn_mscale": ("llama", dict(max_position_embeddings=128, **rope(
        "yarn", factor=4.0, original_max_position_embeddings=32, beta_fast=4.0, beta_slow=0.5, mscale=0.7,
        mscale_all_dim=0.4, truncate=False)), None),
    "llama_yarn_attention": ("llama", dict(max_position_embeddings=128, **rope(
        "yarn", factor=8.0, original_max_position_embeddings=16, attention_factor=1.3)), None),
    "llama_llama3": ("llama", dict(**rope(
        "llama3", 500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=32)), None),
    # Shapes of the small ones: 3 query heads a kv head, tied; and hidden = heads * head_dim with one kv head.
    "smollm": ("llama", dict(hidden_size=48, num_attention_heads=3, num_key_value_heads=1, tie_word_embeddings=True,
                             **rope("default", 100000.0)), None),
    "tinyllama": ("llama", dict(hidden_size=64, num_key_value_heads=1, rms_norm_eps=1e-5), None),
    "mistral": ("mistral", dict(sliding_window=12), VECTORS),
    "mistral_full": ("mistral", dict(sliding_window=None, **rope("default", 1000000.0)), None),
    "qwen2": ("qwen2", dict(**rope("default", 1000000.0)), VECTORS),
    "qwen2_window": ("qwen2", dict(use_sliding_window=True, sliding_window=12, max_window_layers=1,
                                   tie_word_embeddings=True), VECTORS),
    # As the Qwen2.5 model cards say to reach 131,072 tokens.
    "qwen2_yarn": ("qwen2", dict(**SHORT, **rope("yarn", 1000000.0, factor=4.0, original_max_position_embeddings=32)),
                   None),
    "qwen3": ("qwen3", dict(tie_word_embeddings=True, **rope("default", 1000000.0)), VECTORS),
    "qwen3_bias": ("qwen3", dict(attention_bias=True, use_sliding_window=True, sliding_window=12, max_window_layers=0),
                   VECTORS),
}


def weight(name, shape):
    """Element i of tensor `name`: (2 b - 255) / 256 * scale (+ 1 for norms) with b the top byte of
    splitmix64(fnv1a64(name) + (i + 1) * 0x9e3779b97f4a7c15). Exact in f32."""
    seed = 0xcbf29ce484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001b3 % 2**64
    count = math.prod(shape)
    with np.errstate(over="ignore"):
        x = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9e3779b97f4a7c15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xbf58476d1ce4e5b9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94d049bb133111eb)
        x = x ^ (x >> np.uint64(31))
    unit = (2.0 * (x >> np.uint64(56)).astype(np.float64) - 255.0) / 256.0
    if name.endswith("norm.weight"):
        values = 1.0 + 0.25 * unit
    elif "embed_tokens" in name:
        values = unit
    elif "o_proj.weight" in name or "down_proj.weight" in name:
        values = 0.25 * unit
    else:
        values = 0.5 * unit
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def make_model(model_type, arguments):
    config = transformers.AutoConfig.for_model(model_type, **{**SIZES, **arguments})
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weight(name, parameter.shape))
    model.config.architectures = [type(model).__name__]
    return model.eval()


def state_shapes(model):
    tied = model.config.tie_word_embeddings
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()
            if not (tied and name == "lm_head.weight")}


def forward(model_type, arguments, ids):
    # A model of its own: dynamic RoPE remembers the longest sequence.
    with torch.no_grad():
        return make_model(model_type, arguments)(ids[None]).logits[0]


def save(tensors, path, metadata=None):
    safetensors.torch.save_file(tensors, path, metadata)
    path.chmod(0o644)  # whatever the library's temporary file had


def write_gradients(path, model, ids, pattern):
    model.train()
    ids = ids[None, :GRADIENT_LENGTH]
    loss = model(ids, labels=ids).loss
    loss.backward()
    tensors = {"loss": loss.detach().reshape(1)}
    for name, parameter in model.named_parameters():
        if re.fullmatch(pattern, name):
            tensors[name] = parameter.grad
    save(tensors, path)


def write_case(directory, model_type, arguments, gradients):
    directory.mkdir(parents=True)
    model = make_model(model_type, arguments)
    model.config.save_pretrained(directory)
    ids = (torch.arange(LENGTH) * 29 + torch.arange(LENGTH) ** 2 * 7 + 3) % SIZES["vocab_size"]
    tensors = {"ids": ids.to(torch.int32), "positions": torch.tensor(POSITIONS, dtype=torch.int32)}
    for length in (1, 17, LENGTH):
        logits = forward(model_type, arguments, ids[:length])
        tensors[f"logits_{length}"] = (logits[POSITIONS] if length == LENGTH else logits).contiguous()
    save(tensors, directory / "golden.safetensors", {"tensors": json.dumps(state_shapes(model))})
    if gradients:
        write_gradients(directory / "gradients.safetensors", model, ids, gradients)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path,
                        default=pathlib.Path(__file__).resolve().parent / "data" / "architectures")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    shutil.rmtree(out, ignore_errors=True)
    for name, (model_type, arguments, gradients) in CASES.items():
        write_case(out / name, model_type, arguments, gradients)
    versions = {"numpy": np.__version__, "safetensors": safetensors.__version__, "torch": torch.__version__,
                "transformers": transformers.__version__}
    (out / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()
