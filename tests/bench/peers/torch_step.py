#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One LoRA training step of a small Llama in plain PyTorch, as bench_step train: full causal attention (fused SDPA) or
S2-Attn by LongLoRA's roll-and-group. bf16 is autocast over f32 weights, or with --pure-bf16 weights in bf16 too. LoRA
on q, k, v, o; the rest is frozen; no checkpointing (bench_step train --freeze-embedding-and-norms --keep-activations).

For its good: a malloc that keeps pages, e.g.
  LD_PRELOAD=libjemalloc.so.2 MALLOC_CONF=dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always"""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch_common import Times, add_common_arguments, attention, peak_resident_bytes, print_report


class LoraLinear(nn.Module):
    def __init__(self, inputs, outputs, rank):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * 0.02, requires_grad=False)
        self.rank = rank
        if rank > 0:
            self.lora_a = nn.Parameter(torch.randn(rank, inputs) * 0.02)
            self.lora_b = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, x):
        y = F.linear(x, self.weight)
        if self.rank > 0:
            y = y + F.linear(F.linear(x, self.lora_a), self.lora_b) * 2.0
        return y


class RmsNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim), requires_grad=False)

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), 1e-5)


class Layer(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.args = args
        dim, rank = args.dim, args.rank
        self.norm1, self.norm2 = RmsNorm(dim), RmsNorm(dim)
        self.q, self.k, self.v, self.o = (LoraLinear(dim, dim, rank) for _ in range(4))
        self.gate, self.up = (LoraLinear(dim, args.intermediate, 0) for _ in range(2))
        self.down = LoraLinear(args.intermediate, dim, 0)

    def forward(self, x, cos, sin):
        batch, tokens, dim = x.shape
        head_dim = dim // self.args.heads
        h = self.norm1(x)

        def heads(y):
            return y.view(batch, tokens, self.args.heads, head_dim).transpose(1, 2)

        def rotate(y):
            half = head_dim // 2
            return y * cos + torch.cat([-y[..., half:], y[..., :half]], -1) * sin

        q, k, v = rotate(heads(self.q(h))), rotate(heads(self.k(h))), heads(self.v(h))
        y = attention(q.to(v.dtype), k.to(v.dtype), v, self.args.attention, self.args.groups)
        x = x + self.o(y.transpose(1, 2).reshape(batch, tokens, dim))
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Llama(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.embedding = nn.Embedding(args.vocab, args.dim)
        self.embedding.weight.requires_grad = False
        self.layers = nn.ModuleList(Layer(args) for _ in range(args.layers))
        self.norm = RmsNorm(args.dim)
        self.head = LoraLinear(args.dim, args.vocab, 0)

    def forward(self, ids, targets, cos, sin):
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1).float(), targets.flatten())


def rope_tables(tokens, head_dim):
    frequencies = 1.0 / 10000 ** (torch.arange(0, head_dim, 2).float() / head_dim)
    angles = torch.outer(torch.arange(tokens).float(), frequencies)
    return torch.cat([angles.cos()] * 2, -1), torch.cat([angles.sin()] * 2, -1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_arguments(parser)
    parser.add_argument("--pure-bf16", action="store_true")
    parser.add_argument("--attention", choices=["full", "roll_and_group"], default="full")
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--intermediate", type=int, default=1376)
    parser.add_argument("--vocab", type=int, default=32000)
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--rank", type=int, default=8)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = Llama(args)
    cos, sin = rope_tables(args.context, args.dim // args.heads)
    if args.pure_bf16:
        model, cos, sin = model.bfloat16(), cos.bfloat16(), sin.bfloat16()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    ids = torch.randint(0, args.vocab, (1, args.context))
    targets = torch.randint(0, args.vocab, (1, args.context))
    loss = None

    def step():
        nonlocal loss
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.dtype == "bf16" and not args.pure_bf16):
            loss = model(ids, targets, cos, sin)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    times = Times(step, args.repetitions)
    report = {
        "torch": torch.__version__,
        "attention": args.attention,
        "dtype": args.dtype,
        "tokens_per_second": args.context / times.wall,
        "tokens_per_cpu_second": args.context / times.cpu,
        "step_seconds": times.wall,
        "cpu_seconds_per_step": times.cpu,
        "peak_resident_bytes": peak_resident_bytes(),
        "loss": loss.item(),
    }
    print_report(report, args)


if __name__ == "__main__":
    main()
