#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/parity/data/adapters: tiny random Llamas, adapters that PEFT made for them, what transformers and PEFT
compute with them, and the gradients of torch's autograd. Run once, in an environment of requirements.txt; the C++ tests
read the files.

  base/, tied/            Hugging Face directories (bf16)
  <case>/                 adapter_config.json and adapter_model.safetensors as PEFT saved them
  <case>.safetensors      ids [tokens], logits [tokens, vocab]; grad.<tensor> for the cases that are trained
  longlora/               LongLoRA's two files with a 49th vocabulary row; its logits are those of `saved`
  versions.json
"""
import argparse
import json
import pathlib
import shutil
import warnings

import peft
import safetensors
import safetensors.torch
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
LINEAR = ATTENTION + ["gate_proj", "up_proj", "down_proj"]
SAVED = ["embed_tokens", "input_layernorm", "post_attention_layernorm", "norm"]
TOKENS = 40

# name -> (base, LoraConfig arguments, trained)
CASES = {
    "lora": ("base", dict(r=4, lora_alpha=8, target_modules=ATTENTION), False),
    "rslora": ("base", dict(r=4, lora_alpha=6, target_modules=LINEAR, use_rslora=True), True),
    "dora": ("base", dict(r=3, lora_alpha=5, target_modules=LINEAR, use_dora=True), False),
    "dora_rslora": ("base", dict(r=4, lora_alpha=3, target_modules=["q_proj", "down_proj"], use_dora=True,
                                 use_rslora=True, rank_pattern={"down_proj": 2}), False),
    "patterns": ("base", dict(
        r=4, lora_alpha=8, target_modules=LINEAR,
        rank_pattern={"q_proj": 2, "layers.1.self_attn.v_proj": 6, r"model\.layers\.\d+\.mlp\.up_proj": 5},
        alpha_pattern={"model.layers.0.self_attn.q_proj": 3, "1.*v_proj": 11.5, "o_proj": 1}), False),
    "saved": ("base", dict(r=4, lora_alpha=8, target_modules=ATTENTION, modules_to_save=SAVED), True),
    "head": ("base", dict(r=2, lora_alpha=2, target_modules=["v_proj"], modules_to_save=["lm_head", "mlp"]), False),
    "regex": ("base", dict(r=4, lora_alpha=8, target_modules=r".*\.[01]\.self_attn\.(q|k)_proj|.*1\.mlp\.up_proj"),
              False),
    "layers": ("base", dict(r=4, lora_alpha=8, target_modules=ATTENTION, layers_to_transform=[1],
                            layers_pattern="layers", exclude_modules=["o_proj"]), False),
    "all_linear": ("base", dict(r=2, lora_alpha=4, target_modules="all-linear", exclude_modules=r".*\.0\..*"), False),
    "bf16": ("base", dict(r=4, lora_alpha=8, target_modules=ATTENTION, modules_to_save=["norm"]), False),
    "f16": ("base", dict(r=4, lora_alpha=8, target_modules=ATTENTION, modules_to_save=["norm"]), False),
    # A tied head stays the base's unless the adapter has it.
    "tied_embedding": ("tied", dict(r=4, lora_alpha=8, target_modules=ATTENTION, modules_to_save=["embed_tokens"]),
                       False),
    "tied_both": ("tied", dict(r=4, lora_alpha=8, target_modules=ATTENTION, modules_to_save=["embed_tokens"],
                               ensure_weight_tying=True), False),
}
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16}


def write_base(directory, tied):
    config = transformers.LlamaConfig(
        vocab_size=48, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=64, tie_word_embeddings=tied, rms_norm_eps=1e-5,
        bos_token_id=0, eos_token_id=1, initializer_range=0.2)
    torch.manual_seed(7 + tied)
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.add_(torch.randn_like(parameter) * 0.2)
    model.to(torch.bfloat16).save_pretrained(directory)


def load_base(directory):
    return transformers.LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")


def randomize(model, seed):
    """Every tensor that is trained becomes something that changes the logits."""
    torch.manual_seed(seed)
    seen = set()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad or parameter.data_ptr() in seen:
                continue
            seen.add(parameter.data_ptr())
            if "lora_magnitude_vector" in name:
                parameter.mul_(1 + 0.3 * torch.randn_like(parameter))
            elif "lora_" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.3)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.2)


def our_name(name):
    """Of a parameter of the PEFT model, e.g. "model.norm.weight" or "....q_proj.lora_A"."""
    name = name.removeprefix("base_model.model.").replace(".modules_to_save.default", "")
    return name.replace(".default.weight", "").replace(".default", "")


def compute(model, ids, trained):
    out = {"ids": ids[0].to(torch.int32)}
    model.eval()
    with torch.no_grad():
        out["logits"] = model(input_ids=ids).logits[0].contiguous()
    if trained:
        model.train()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        out["loss"] = loss.detach().reshape(1)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                out["grad." + our_name(name)] = parameter.grad.clone().contiguous()
    return out


def make_case(out, name, seed):
    base, arguments, trained = CASES[name]
    config = peft.LoraConfig(task_type="CAUSAL_LM", **arguments)
    model = peft.get_peft_model(load_base(out / base), config, autocast_adapter_dtype=False)
    randomize(model, seed)
    if name in DTYPES:
        # Rounded first, so that the values are the same whatever the file says.
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.copy_(parameter.to(DTYPES[name]).float())
    torch.manual_seed(seed + 1000)
    ids = torch.randint(0, 48, (1, TOKENS))
    expected = compute(model, ids, trained)
    if name in DTYPES:
        model.to(DTYPES[name])
    config.base_model_name_or_path = base
    model.save_pretrained(out / name)
    (out / name / "README.md").unlink(missing_ok=True)
    # What PEFT loads must be what it saved, else the golden is worth nothing.
    again = peft.PeftModel.from_pretrained(load_base(out / base), out / name, autocast_adapter_dtype=False)
    reloaded = compute(again.float(), ids, False)["logits"]
    assert torch.allclose(reloaded, expected["logits"], rtol=1e-5, atol=1e-5), name
    safetensors.torch.save_file(expected, out / f"{name}.safetensors")


def make_longlora(out):
    """The `saved` adapter as LongLoRA's get_trainable_weights.py leaves it, with the row of its [PAD] token."""
    tensors = safetensors.torch.load_file(out / "saved" / "adapter_model.safetensors")
    lora = {k: v for k, v in tensors.items() if "lora_" in k}
    full = {k.removeprefix("base_model.model."): v for k, v in tensors.items() if "lora_" not in k}
    embedding = full["model.embed_tokens.weight"]
    full["model.embed_tokens.weight"] = torch.cat([embedding, embedding.mean(0, keepdim=True)])
    directory = out / "longlora"
    directory.mkdir()
    safetensors.torch.save_file(lora, directory / "adapter_model.safetensors")
    safetensors.torch.save_file(full, directory / "trainable_params.safetensors")
    config = json.loads((out / "saved" / "adapter_config.json").read_text())
    config["modules_to_save"] = None
    (directory / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "data" / "adapters")
    out = parser.parse_args().out
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    write_base(out / "base", tied=False)
    write_base(out / "tied", tied=True)
    for seed, name in enumerate(CASES):
        make_case(out, name, seed)
        print(name, sorted(p.name for p in (out / name).iterdir()))
    make_longlora(out)
    versions = {m.__name__: m.__version__ for m in (peft, safetensors, torch, transformers)}
    (out / "versions.json").write_text(json.dumps(versions, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
