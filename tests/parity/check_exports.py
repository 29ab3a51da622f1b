#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Our exports in the hands of transformers and PEFT. For every adapter of data/adapters: exports all three forms with
parity_tool, loads them as users do, and compares logits with ours and with those of the adapter that PEFT saved.

Tolerances, relative to the largest |logit|: 1e-4 where both sides have the same weights in f32; for the two exports in
bf16 against the original adapter, what parity_tool's own merge check found its bound to be.
"""
import argparse
import pathlib
import re
import subprocess
import warnings

import peft
import safetensors.torch
import torch
import transformers

DATA = pathlib.Path(__file__).resolve().parent / "data" / "adapters"
SAME_WEIGHTS = 1e-4
# The context of the base is 64: beyond it, the adapter's RoPE scaling would show; these adapters have none.
TOKENS = 60


def load(directory):
    return transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32,
                                                             attn_implementation="eager").eval()


def load_adapter(base, directory):
    return peft.PeftModel.from_pretrained(load(base), directory, autocast_adapter_dtype=False).float().eval()


def their_logits(model, ids):
    with torch.no_grad():
        return model(input_ids=ids).logits[0].float()


class Check:
    def __init__(self, tool, work):
        self.tool, self.work, self.failed = tool, work, []

    def our_logits(self, model, adapter, ids):
        ids_file, out = self.work / "ids.txt", self.work / "logits.safetensors"
        ids_file.write_text(" ".join(str(i) for i in ids[0].tolist()))
        subprocess.run([self.tool, "logits", model, adapter or "-", ids_file, out], check=True)
        return safetensors.torch.load_file(out)["logits"]

    def compare(self, name, got, want, tolerance):
        difference = ((got - want).abs().max() / want.abs().max()).item()
        ok = difference <= tolerance  # false for NaN
        print(f"  {name:<34} {difference:.2e} of {tolerance:.2e}{'' if ok else '  FAILED'}")
        if not ok:
            self.failed.append(name)

    def adapter(self, name):
        print(name)
        prefix = name.split("_")[0]
        base = DATA / (prefix if prefix in ("tied", "biased") else "base")
        out = self.work / name
        report = subprocess.run([self.tool, "export", base, DATA / name, out], check=True, capture_output=True,
                                text=True).stdout
        bounds = [float(x) for x in re.findall(r"relative \S+ \(bound (\S+)\)", report)]
        torch.manual_seed(1)
        ids = torch.randint(0, 48, (1, TOKENS))
        want = their_logits(load_adapter(base, DATA / name), ids)
        self.compare(f"{name}: ours", self.our_logits(base, DATA / name, ids), want, SAME_WEIGHTS)
        exported = their_logits(load_adapter(base, out / "adapter"), ids)
        self.compare(f"{name}: adapter export", exported, want, SAME_WEIGHTS)
        split = their_logits(load_adapter(out / "split_base", out / "split"), ids)
        self.compare(f"{name}: split export, ours", self.our_logits(out / "split_base", out / "split", ids), split,
                     SAME_WEIGHTS)
        self.compare(f"{name}: split export, original", split, want, bounds[1])
        merged = their_logits(load(out / "merged"), ids)
        self.compare(f"{name}: merged export, ours", self.our_logits(out / "merged", None, ids), merged, SAME_WEIGHTS)
        self.compare(f"{name}: merged export, original", merged, want, bounds[0])

    def scaled(self):
        """A longer context: an adapter with our keys for it, and config.json with rope_scaling, both past the base's."""
        print("longer context")
        source = self.work / "scaled_adapter"
        source.mkdir()
        for file in (DATA / "saved").iterdir():
            (source / file.name).write_bytes(file.read_bytes())
        config = source / "adapter_config.json"
        config.write_text(config.read_text().replace(
            "{", '{\n  "sinklora_context_tokens": 256,\n  "sinklora_rope_factor": 4,', 1))
        out = self.work / "scaled"
        subprocess.run([self.tool, "export", DATA / "base", source, out], check=True, capture_output=True)
        torch.manual_seed(2)
        ids = torch.randint(0, 48, (1, 200))
        merged = load(out / "merged")
        assert merged.config.max_position_embeddings == 64, merged.config
        self.compare("merged, 200 tokens of 4 x 64", self.our_logits(out / "merged", None, ids),
                     their_logits(merged, ids), SAME_WEIGHTS)
        split = load_adapter(out / "split_base", out / "split")
        self.compare("split, 200 tokens of 4 x 64", self.our_logits(out / "split_base", out / "split", ids),
                     their_logits(split, ids), SAME_WEIGHTS)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", type=pathlib.Path, required=True, help="parity_tool")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="scratch folder, made when absent")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.disable_progress_bar()
    arguments.work.mkdir(parents=True, exist_ok=True)
    check = Check(arguments.tool, arguments.work)
    names = sorted(p.stem for p in DATA.glob("*.safetensors"))
    assert names, f"no adapters in {DATA}"
    for name in names:
        check.adapter(name)
    check.scaled()
    if check.failed:
        raise SystemExit(f"{len(check.failed)} comparisons failed: {', '.join(check.failed)}")
    print(f"{len(names)} adapters, all exports load and agree")


if __name__ == "__main__":
    main()
