#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prefill and decode of a GGUF file by llama.cpp: by a llama-bench binary given by path, else by the Python module
llama_cpp where it can be imported. Its threads wait by spinning: where other processes take the cores away, only
--threads 1 and CPU seconds mean something."""

import argparse
import json
import statistics
import subprocess
import time


def with_binary(args):
    prompt, tokens = (args.prompt, 0) if args.what == "prefill" else (0, args.tokens)
    command = [args.llama_bench, "-m", args.gguf, "-t", str(args.threads), "-p", str(prompt), "-n", str(tokens)]
    command += ["-r", str(args.repetitions), "-o", "json"]
    rows = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {"llama_bench": args.llama_bench, "tokens_per_second": rows[0]["avg_ts"]}


def with_module(args):
    import llama_cpp  # the peer, where it is installed

    model = llama_cpp.Llama(
        args.gguf,
        n_ctx=args.prompt + args.tokens + 16,
        n_batch=args.prompt,
        n_ubatch=min(args.prompt, 512),
        n_threads=args.threads,
        n_threads_batch=args.threads,
        flash_attn=args.flash_attention,
        verbose=False,
    )
    prompt = [7 + i % 200 for i in range(args.prompt)]
    walls, cpus = [], []
    for repetition in range(args.repetitions + 1):
        model.reset()
        if args.what == "decode":
            model.eval(prompt[:16])
        wall, cpu = time.perf_counter(), time.process_time()
        if args.what == "prefill":
            model.eval(prompt)
        else:
            for i in range(args.tokens):
                model.eval([7 + i % 200])
        if repetition > 0:
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
    count = args.prompt if args.what == "prefill" else args.tokens
    return {
        "llama_cpp": llama_cpp.__version__,
        "tokens_per_second": count / statistics.median(walls),
        "tokens_per_cpu_second": count / statistics.median(cpus),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gguf")
    parser.add_argument("--what", choices=["prefill", "decode"], default="decode")
    parser.add_argument("--llama-bench", help="path of the binary; without it, the Python module")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--flash-attention", action="store_true", help="of the module")
    parser.add_argument("--value", help="print only this value of the report, for compare.sh")
    args = parser.parse_args()
    report = {"what": args.what, **(with_binary(args) if args.llama_bench else with_module(args))}
    print(report[args.value] if args.value else json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
