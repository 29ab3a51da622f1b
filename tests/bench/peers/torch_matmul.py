#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""PyTorch's matrix product x @ w.T at the shapes of bench_kernels."""

import argparse

import torch
from torch_common import Times, add_common_arguments, dtype_of, print_report


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add_common_arguments(parser)
    parser.add_argument("--m", type=int, default=4096)
    parser.add_argument("--n", type=int, default=2048)
    parser.add_argument("--k", type=int, default=2048)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    x = torch.randn(args.m, args.k, dtype=dtype_of(args))
    w = torch.randn(args.n, args.k, dtype=dtype_of(args))
    times = Times(lambda: torch.nn.functional.linear(x, w), args.repetitions)
    flops = 2 * args.m * args.n * args.k
    report = {
        "torch": torch.__version__,
        "dtype": args.dtype,
        "gflop_per_second": flops / times.wall / 1e9,
        "gflop_per_cpu_second": flops / times.cpu / 1e9,
        "weight_gb_per_second": w.numel() * w.element_size() / times.wall / 1e9,
    }
    print_report(report, args)


if __name__ == "__main__":
    main()
