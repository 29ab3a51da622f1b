#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/common/gguf/testdata with the libraries of others.

quants.gguf        written by gguf-py: a value of every metadata type, and the
                   same numbers as F32, F16, BF16 and Q8_0.
<model>/           a tiny random model and tokenizer in Hugging Face's form.
<model>.gguf       llama.cpp's convert_hf_to_gguf made it from <model>/.

Needs numpy, torch, transformers, tokenizers, sentencepiece, gguf and a checkout
of llama.cpp (also in the source package of llama-cpp-python, vendor/llama.cpp).

Usage: make_gguf_goldens.py --llama-cpp DIR --out tests/common/gguf/testdata
"""

import argparse
import io
import json
import pathlib
import shutil
import sys

import numpy as np
import torch
import transformers

TEXT = """It is a truth universally acknowledged, that a single man in
possession of a good fortune, must be in want of a wife. However little known
the feelings or views of such a man may be on his first entering a
neighbourhood, this truth is so well fixed in the minds of the surrounding
families, that he is considered as the rightful property of some one or other
of their daughters. "My dear Mr. Bennet," said his lady to him one day, "have
you heard that Netherfield Park is let at last?" 1813, 27 chapters: 3.14159!
"""

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

SIZES = dict(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=1,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    vocab_size=320,
)


def make_quants(path):
    import gguf

    rng = np.random.default_rng(7)
    x = rng.standard_normal((12, 64)).astype(np.float32)
    x[1] *= 1e-3
    x[2] *= 1e3
    x[3, :32] = 0
    x[3, 32:] = -0.0
    # Ties: of Q8_0 with scale 1, of bf16 and of f16, subnormal in f16.
    x[4] = np.arange(64) - 31.5
    x[4, 0] = x[4, 32] = 127
    x[5] = 1 + np.arange(64) * 2.0**-8
    x[6] = 1 + np.arange(64) * 2.0**-11
    x[7] = (np.arange(64) - 32) * 2.0**-25
    x[8] = 65504 - np.arange(64) * 16.0
    x[9] *= 1e-30
    x[10] *= 1e-12
    w = gguf.GGUFWriter(path, "llama")
    w.add_uint8("test.uint8", 200)
    w.add_int8("test.int8", -100)
    w.add_uint16("test.uint16", 60000)
    w.add_int16("test.int16", -30000)
    w.add_uint32("test.uint32", 4000000000)
    w.add_int32("test.int32", -2000000000)
    w.add_uint64("test.uint64", 10**18)
    w.add_int64("test.int64", -(10**18))
    w.add_float32("test.float32", 0.1)
    w.add_float64("test.float64", 0.1)
    w.add_bool("test.bool", True)
    w.add_string("test.string", "ümlaut")
    w.add_array("test.strings", ["a", "", "日本"])
    w.add_array("test.floats", [0.5, -2.0])
    w.add_array("test.ints", [1, -1, 7])
    q = gguf.GGMLQuantizationType
    for name, kind in [("f32", q.F32), ("f16", q.F16), ("bf16", q.BF16), ("q8_0", q.Q8_0)]:
        w.add_tensor("x." + name, gguf.quants.quantize(x, kind), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def sentencepiece_files(folder):
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.splitlines()),
        model_writer=model,
        model_type="bpe",
        vocab_size=316,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    config = {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "tokenizer_class": "LlamaTokenizer",
        "chat_template": "{{ messages[0]['content'] }}ü",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))


def byte_level_files(folder, regex, begin, end, ignore_merges, tail=()):
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, processors, trainers

    t = tokenizers.Tokenizer(models.BPE(ignore_merges=ignore_merges))
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(regex), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(
        [TEXT],
        trainers.BpeTrainer(
            vocab_size=310,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    t.add_special_tokens([s for s in (begin, end) if s])
    t.add_tokens([tokenizers.AddedToken(s, normalized=False) for s in tail])
    if begin:
        t.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A",
            pair=f"{begin} $A {begin} $B:1",
            special_tokens=[(begin, t.token_to_id(begin))],
        )
    t.save(str(folder / "tokenizer.json"))
    kind = "PreTrainedTokenizerFast" if begin else "Qwen2Tokenizer"
    config = {"eos_token": end, "tokenizer_class": kind}
    if begin:
        config["bos_token"] = begin
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))


# One after the other: what is random must not depend on what comes before.
def make_models(out):
    def save(name, config, tokenizer, *arguments):
        torch.manual_seed(sum(name.encode()))
        folder = out / name
        folder.mkdir()
        model = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():  # norms and biases, too
                parameter.add_(torch.randn_like(parameter) * 0.2)
        model.to(torch.bfloat16).save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        tokenizer(folder, *arguments)

    save(
        "llama_spm",
        transformers.LlamaConfig(
            **SIZES,
            rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0},
            bos_token_id=1,
            eos_token_id=2,
        ),
        sentencepiece_files,
    )
    save(
        "llama3_bpe",
        transformers.LlamaConfig(
            **{**SIZES, "head_dim": 16},
            rope_parameters={
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
                "rope_theta": 500000.0,
            },
            tie_word_embeddings=True,
            bos_token_id=310,
            eos_token_id=311,
        ),
        byte_level_files,
        LLAMA3,
        "<|begin_of_text|>",
        "<|end_of_text|>",
        True,
    )
    save(
        "qwen2_bpe",
        transformers.Qwen2Config(
            **SIZES, rope_theta=1000000.0, tie_word_embeddings=True, bos_token_id=310, eos_token_id=310
        ),
        byte_level_files,
        QWEN2,
        None,
        "<|endoftext|>",
        False,
        ["<tool>"],
    )
    save(
        "qwen3_bpe",
        transformers.Qwen3Config(
            **{**SIZES, "head_dim": 16, "max_position_embeddings": 128},
            rope_parameters={
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 32,
                "rope_theta": 1000000.0,
            },
            tie_word_embeddings=True,
            bos_token_id=310,
            eos_token_id=310,
        ),
        byte_level_files,
        QWEN2,
        None,
        "<|endoftext|>",
        False,
    )


# The converter knows a pre-tokenizer by the hash of the ids it gives a text,
# which a vocabulary of our own changes; so it is told.
PRE_TOKENIZERS = {"llama3_bpe": "llama-bpe", "qwen2_bpe": "qwen2", "qwen3_bpe": "qwen2"}


def convert(folder, path, kind, pre=None):
    import gguf
    from conversion import get_model_class
    from conversion.base import ModelBase

    hparams = ModelBase.load_hparams(folder, False)
    cls = get_model_class(hparams["architectures"][0])
    if pre:
        cls.get_vocab_base_pre = lambda self, tokenizer: pre
    with torch.inference_mode():
        cls(folder, getattr(gguf.LlamaFileType, kind), path, eager=True).write()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--llama-cpp", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    sys.path[:0] = [str(args.llama_cpp), str(args.llama_cpp / "gguf-py")]
    shutil.rmtree(args.out, ignore_errors=True)
    args.out.mkdir(parents=True)
    make_quants(str(args.out / "quants.gguf"))
    make_models(args.out)
    for folder in sorted(p for p in args.out.iterdir() if p.is_dir()):
        pre = PRE_TOKENIZERS.get(folder.name)
        convert(folder, args.out / f"{folder.name}.gguf", "MOSTLY_BF16", pre)
    convert(args.out / "llama_spm", args.out / "llama_spm_q8_0.gguf", "MOSTLY_Q8_0")


if __name__ == "__main__":
    main()
