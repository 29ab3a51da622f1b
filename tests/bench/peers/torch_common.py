# SPDX-License-Identifier: Apache-2.0
"""What the PyTorch measurements share: clocks, memory, attention as LongLoRA does it."""

import json
import statistics
import time

import torch
import torch.nn.functional as F


def add_common_arguments(parser):
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="bf16")
    parser.add_argument("--repetitions", type=int, default=3, help="after one that warms up")
    parser.add_argument("--value", help="print only this value of the report, for compare.sh")


def dtype_of(args):
    return torch.bfloat16 if args.dtype == "bf16" else torch.float32


def _status_bytes(name):
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return 0


def resident_bytes():
    return _status_bytes("VmRSS:")


def peak_resident_bytes():
    return _status_bytes("VmHWM:")


def reset_peak_resident():
    with open("/proc/self/clear_refs", "w", encoding="ascii") as clear:
        clear.write("5")


class Times:
    """Median wall and CPU seconds of a few calls."""

    def __init__(self, run, repetitions):
        run()
        walls, cpus = [], []
        for _ in range(repetitions):
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
        self.wall = statistics.median(walls)
        self.cpu = statistics.median(cpus)


def print_report(report, args):
    print(report[args.value] if args.value else json.dumps(report, indent=2))


def roll_and_group(q, k, v, groups):
    """S2-Attn of LongLoRA on [batch, heads, tokens, head_dim]: half of the heads rolled by half a group, groups in the
    batch dimension, and back."""
    batch, heads, tokens, dim = q.shape
    size = tokens // groups

    def shift(x):
        x = x.clone()
        x[:, heads // 2 :] = x[:, heads // 2 :].roll(-size // 2, dims=2)
        return x.view(batch, heads, groups, size, dim).transpose(1, 2).reshape(batch * groups, heads, size, dim)

    y = F.scaled_dot_product_attention(shift(q), shift(k), shift(v), is_causal=True)
    y = y.view(batch, groups, heads, size, dim).transpose(1, 2).reshape(batch, heads, tokens, dim).clone()
    y[:, heads // 2 :] = y[:, heads // 2 :].roll(size // 2, dims=2)
    return y


def attention(q, k, v, kind, groups):
    if kind == "roll_and_group":
        return roll_and_group(q, k, v, groups)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)
