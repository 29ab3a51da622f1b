#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks our GGUF files with gguf-py and llama.cpp, and llama.cpp's with us.

For every model: exports it in each type; gguf-py reads the file and gives the
model's own weights (exactly in F32 and BF16, within the type's rounding
otherwise); llama.cpp, where llama_cpp is installed, tokenizes a set of texts to
our ids and gives our logits and greedy tokens; our import of the file, and of
the one that llama.cpp's converter makes, gives the model's weights back.

Usage: check_gguf.py --tool build/release/tests/gguf_tool --work DIR
           [--llama-cpp DIR] [--shared DIR] MODEL_DIR...

Needs numpy and gguf; llama_cpp (package llama-cpp-python) for llama.cpp.
--llama-cpp names a checkout with the converter. --shared names a folder with
llama2-tokenizer.model, for a random model with that vocabulary.
"""

import argparse
import ctypes
import json
import pathlib
import re
import shutil
import struct
import subprocess
import sys

import numpy as np

TYPES = ["f32", "f16", "bf16", "q8_0"]
STEPS = 8

TEXTS = [
    "It is a truth universally acknowledged, that a single man in possession",
    "  two  spaces,\ttab\nline\r\n\r\n end ",
    " leading space",
    "don't DON'T we'll I'M they'Ve 1 12 123 1234 12345 3.14159",
    "def f(x):\n    return x ** 2  # code\n\n\n",
    "naïve café Ωmega Привет שלום مرحبا हिन्दी ไทย",
    "日本語のテキスト 中文 한국어",
    "\U0001f469\u200d\U0001f4bb \U0001f1e9\U0001f1ea ☃ \u00e9 e\u0301",
    "a" * 300,
    "x",
    "!!!???...---___***",
    "\u00a0\u2003\u3000 wide \u200b spaces",
]
# Texts that name special tokens, which llama.cpp's BPE may merge by accident.
LOOKALIKES = ["<s> </s> <unk>", "<0x41> [PAD311]", "<|begin|><|end|>"]


class Failures:
    def __init__(self):
        self.count = 0

    def check(self, ok, what):
        if not ok:
            self.count += 1
        print(("ok      " if ok else "FAILED  ") + what, flush=True)


def read_safetensors(folder):
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        body = data[8 + length :]
        for name, info in json.loads(data[8 : 8 + length]).items():
            if name == "__metadata__":
                continue
            begin, end = info["data_offsets"]
            raw = body[begin:end]
            if info["dtype"] == "BF16":
                wide = np.frombuffer(raw, np.uint16).astype(np.uint32) << 16
                values = wide.view(np.float32)
            else:
                kind = {"F32": np.float32, "F16": np.float16}[info["dtype"]]
                values = np.frombuffer(raw, kind).astype(np.float32)
            tensors[name] = values.reshape(info["shape"])
    return tensors


def expected_gguf_tensors(folder):
    """The model's weights under llama.cpp's names, in its order of rows."""
    config = json.loads((folder / "config.json").read_text())
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    permuted = config["model_type"] in ("llama", "mistral")
    names = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "self_attn.q_norm": "attn_q_norm",
        "self_attn.k_norm": "attn_k_norm",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    top = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    tensors = {}
    for name, values in read_safetensors(folder).items():
        if name in top:
            tensors[top[name]] = values
            continue
        layer, module, kind = re.fullmatch(r"model\.layers\.(\d+)\.(.*)\.(\w+)", name).groups()
        n = {"self_attn.q_proj": heads, "self_attn.k_proj": kv_heads}.get(module)
        if permuted and n:
            shape = values.shape
            values = values.reshape(n, 2, shape[0] // n // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)
        tensors[f"blk.{layer}.{names[module]}.{kind}"] = values
    return tensors


def check_file(path, kind, folder, failures):
    import gguf

    reader = gguf.GGUFReader(path)
    have = {t.name: t for t in reader.tensors}
    want = expected_gguf_tensors(folder)
    worst = 0.0
    ok = set(have) - {"rope_freqs.weight"} == set(want)
    for name, values in want.items():
        tensor = have[name]
        wanted = "F32" if values.ndim == 1 else kind.upper()
        ok &= tensor.tensor_type.name == wanted
        ok &= list(reversed([int(n) for n in tensor.shape])) == list(values.shape)
        got = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(values.shape)
        # The same library's own conversion, bit for bit.
        again = gguf.quants.quantize(values, tensor.tensor_type)
        ok &= again.tobytes() == np.ascontiguousarray(tensor.data).tobytes()
        worst = max(worst, float(np.abs(got - values).max() / np.abs(values).max()))
    failures.check(ok, f"gguf-py: {path.name}: {len(have)} tensors, worst difference {worst:.2e} of the largest")


class LlamaCpp:
    quiet = None  # must outlive the library's use of it

    def __init__(self, path):
        import llama_cpp

        self.lib = llama_cpp
        if LlamaCpp.quiet is None:
            LlamaCpp.quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
            llama_cpp.llama_log_set(LlamaCpp.quiet, ctypes.c_void_p(0))
        # Keys and values in f32, as ours; the library's default is f16.
        f32 = llama_cpp.GGML_TYPE_F32
        self.llama = llama_cpp.Llama(
            str(path), n_ctx=0, n_batch=512, n_threads=1, type_k=f32, type_v=f32, verbose=False, n_gpu_layers=0
        )

    def ids(self, text):
        return self.llama.tokenize(text.encode(), add_bos=False, special=False)

    def run(self, prompt):
        """Logits behind the prompt and greedy tokens."""
        self.llama.reset()
        self.llama.eval(prompt)
        n = self.llama.n_vocab()

        def logits():
            pointer = self.lib.llama_get_logits_ith(self.llama._ctx.ctx, -1)
            return np.ctypeslib.as_array(pointer, shape=(n,)).copy()

        first = logits()
        greedy, last = [], first
        for _ in range(STEPS):
            greedy.append(int(last.argmax()))
            self.llama.eval([greedy[-1]])
            last = logits()
        return first, greedy


def metadata(path, key):
    import gguf

    reader = gguf.GGUFReader(path)
    arch = reader.get_field("general.architecture").contents()
    return reader.get_field(key.format(arch=arch)).contents()


def prompts_of(path):
    """One token, a few, and the whole context, beyond the original one."""
    vocab = metadata(path, "{arch}.vocab_size")
    context = metadata(path, "{arch}.context_length")
    rng = np.random.default_rng(3)
    lengths = [1, 17, min(context, 512) - STEPS - 1]
    return [[int(i) for i in rng.integers(3, vocab - 8, n)] for n in lengths]


def ours(tool, folder, texts, prompts):
    request = {"texts": texts, "prompts": prompts, "steps": STEPS}
    out = subprocess.run([tool, "run", folder], input=json.dumps(request).encode(), capture_output=True, check=True)
    return json.loads(out.stdout)


# Largest difference of logits, relative to their largest magnitude. llama.cpp
# multiplies with activations rounded to the type of the matrix: f16, bf16, or 8
# bits for Q8_0, whose weights differ as well.
LOGITS = {"f32": 1e-4, "f16": 1e-2, "bf16": 5e-2, "q8_0": 2e-1}


def check_llama_cpp(path, kind, folder, reply, prompts, failures):
    model = LlamaCpp(path)
    if kind == "f32":
        different = [t for t, ids in zip(TEXTS, reply["ids"]) if model.ids(t) != ids]
        failures.check(not different, f"llama.cpp: {path.name}: ids of {len(TEXTS)} texts {different}")
        for text, ids in zip(LOOKALIKES, reply["ids"][len(TEXTS) :]):
            if model.ids(text) != ids:
                print(f"note    llama.cpp: {path.name}: {text!r} gives {model.ids(text)}, ours {ids}")
    worst, same, total = 0.0, 0, 0
    for i, prompt in enumerate(prompts):
        logits, greedy = model.run(prompt)
        want = np.array(reply["logits"][i], np.float32)
        worst = max(worst, float(np.abs(logits - want).max() / np.abs(want).max()))
        same += sum(a == b for a, b in zip(greedy, reply["greedy"][i]))
        total += STEPS
    ok = worst < LOGITS[kind] and (kind != "f32" or same == total)
    failures.check(ok, f"llama.cpp: {path.name}: worst logit difference {worst:.2e}, greedy tokens {same} of {total}")


def check_import(tool, path, kind, folder, out, failures):
    shutil.rmtree(out, ignore_errors=True)
    done = subprocess.run([tool, "import", path, out], capture_output=True, text=True)
    if done.returncode != 0:
        failures.check(False, f"import: {path.name}: {done.stderr.strip()}")
        return
    have, want = read_safetensors(out), read_safetensors(folder)
    exact = kind in ("f32", "bf16")
    ok = set(have) == set(want)
    worst = 0.0
    for name, values in want.items():
        worst = max(worst, float(np.abs(have[name] - values).max() / np.abs(values).max()))
    ok &= worst == 0 if exact else worst < 0.01
    failures.check(ok, f"import: {path.name}: {len(have)} tensors, worst difference {worst:.2e} of the largest")


def convert(folder, path, kind, pre, checkout):
    """llama.cpp's own converter; `pre` as in make_gguf_goldens.py."""
    script = pathlib.Path(__file__).with_name("make_gguf_goldens.py")
    code = (
        "import sys, pathlib; sys.path[:0] = sys.argv[1:4]; import make_gguf_goldens as m;"
        "m.convert(pathlib.Path(sys.argv[4]), pathlib.Path(sys.argv[5]), sys.argv[6], sys.argv[7] or None)"
    )
    names = {"f32": "ALL_F32", "bf16": "MOSTLY_BF16"}
    subprocess.run(
        [sys.executable, "-c", code, checkout, f"{checkout}/gguf-py", script.parent, folder, path, names[kind], pre or ""],
        check=True,
        capture_output=True,
    )


def make_sentencepiece_model(folder, tokenizer):
    """A random Llama with Llama 2's vocabulary."""
    rng = np.random.default_rng(5)
    hidden, mlp, heads, kv, dim, vocab = 64, 128, 4, 2, 16, 32000
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "num_hidden_layers": 2,
        "head_dim": dim,
        "hidden_act": "silu",
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "vocab_size": vocab,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    shapes = {"model.embed_tokens": (vocab, hidden), "lm_head": (vocab, hidden), "model.norm": (hidden,)}
    for i in range(2):
        for name, shape in {
            "input_layernorm": (hidden,),
            "post_attention_layernorm": (hidden,),
            "self_attn.q_proj": (heads * dim, hidden),
            "self_attn.k_proj": (kv * dim, hidden),
            "self_attn.v_proj": (kv * dim, hidden),
            "self_attn.o_proj": (hidden, heads * dim),
            "mlp.gate_proj": (mlp, hidden),
            "mlp.up_proj": (mlp, hidden),
            "mlp.down_proj": (hidden, mlp),
        }.items():
            shapes[f"model.layers.{i}.{name}"] = shape
    header, body = {}, b""
    for name in sorted(shapes):
        values = rng.standard_normal(shapes[name]).astype(np.float32) * 0.2 + (len(shapes[name]) == 1)
        raw = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        header[f"{name}.weight"] = {
            "dtype": "BF16",
            "shape": list(shapes[name]),
            "data_offsets": [len(body), len(body) + len(raw)],
        }
        body += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(tokenizer, folder / "tokenizer.model")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True})
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--llama-cpp", type=pathlib.Path)
    parser.add_argument("--shared", type=pathlib.Path)
    parser.add_argument("models", type=pathlib.Path, nargs="+")
    args = parser.parse_args()
    failures = Failures()
    try:
        import llama_cpp

        print(f"llama-cpp-python {llama_cpp.__version__}")
        has_llama_cpp = True
    except ImportError:
        print("SKIPPED: llama_cpp is not installed; llama.cpp itself is not run")
        has_llama_cpp = False
    args.work.mkdir(parents=True, exist_ok=True)
    models = list(args.models)
    if args.shared and (args.shared / "llama2-tokenizer.model").exists():
        folder = args.work / "llama2_vocabulary"
        shutil.rmtree(folder, ignore_errors=True)
        make_sentencepiece_model(folder, args.shared / "llama2-tokenizer.model")
        models.append(folder)
    for folder in models:
        name = folder.parent.name if folder.name == "model" else folder.name
        subprocess.run([args.tool, "export", folder, "f32", args.work / f"{name}.f32.gguf"], check=True)
        prompts = prompts_of(args.work / f"{name}.f32.gguf")
        reply = ours(args.tool, folder, TEXTS + LOOKALIKES, prompts)
        for kind in TYPES:
            path = args.work / f"{name}.{kind}.gguf"
            subprocess.run([args.tool, "export", folder, kind, path], check=True)
            check_file(path, kind, folder, failures)
            if has_llama_cpp:
                check_llama_cpp(path, kind, folder, reply, prompts, failures)
            check_import(args.tool, path, kind, folder, args.work / "imported", failures)
        # Ids survive the way through GGUF.
        again = ours(args.tool, args.work / "imported", TEXTS, [])
        failures.check(again["ids"] == reply["ids"][: len(TEXTS)], f"import: {name}: ids of {len(TEXTS)} texts")
        if args.llama_cpp:
            pre = metadata(args.work / f"{name}.f32.gguf", "tokenizer.ggml.pre")
            for kind in ("f32", "bf16"):
                path = args.work / f"{name}.{kind}.converter.gguf"
                convert(folder, path, kind, pre, args.llama_cpp)
                check_import(args.tool, path, kind, folder, args.work / "imported", failures)
    print(f"{failures.count} failures")
    return 1 if failures.count else 0


if __name__ == "__main__":
    sys.exit(main())
