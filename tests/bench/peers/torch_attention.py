#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""PyTorch's attention, forward and backward, at the shapes of bench_kernels: full causal (fused SDPA), or S2-Attn by
LongLoRA's roll-and-group. extra_bytes: resident memory beyond
q, k, v, the output's gradient and what comes out."""

import argparse

import torch
from torch_common import (
    Times,
    add_common_arguments,
    attention,
    dtype_of,
    peak_resident_bytes,
    print_report,
    reset_peak_resident,
    resident_bytes,
)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add_common_arguments(parser)
    parser.add_argument("--attention", choices=["full", "roll_and_group"], default="full")
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--head-dim", type=int, default=128)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    dtype = dtype_of(args)
    shape = (1, args.heads, args.tokens, args.head_dim)
    q, k, v = (torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(3))
    dout = torch.randn(shape, dtype=dtype)

    def forward():
        with torch.no_grad():
            attention(q, k, v, args.attention, args.groups)

    def both():
        q.grad = k.grad = v.grad = None
        attention(q, k, v, args.attention, args.groups).backward(dout)

    before = resident_bytes()
    reset_peak_resident()
    both()
    results = 4 * q.numel() * q.element_size()  # output and three gradients
    extra = peak_resident_bytes() - before - results
    forward_times, both_times = Times(forward, args.repetitions), Times(both, args.repetitions)
    size = args.tokens if args.attention == "full" else args.tokens // args.groups
    pairs = args.heads * (args.tokens // size) * size * (size + 1) / 2
    report = {
        "torch": torch.__version__,
        "attention": args.attention,
        "dtype": args.dtype,
        "forward_seconds": forward_times.wall,
        "forward_backward_seconds": both_times.wall,
        "forward_cpu_seconds": forward_times.cpu,
        "forward_backward_cpu_seconds": both_times.cpu,
        "forward_gflop_per_second": 4 * args.head_dim * pairs / forward_times.wall / 1e9,
        "forward_backward_gflop_per_second": 14 * args.head_dim * pairs / both_times.wall / 1e9,
        "extra_bytes": extra,
    }
    print_report(report, args)


if __name__ == "__main__":
    main()
