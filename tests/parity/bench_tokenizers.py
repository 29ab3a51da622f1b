#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Encoding speed of our tokenizers beside Hugging Face tokenizers and SentencePiece's own library, on the same books, one
thread each, in MB/s (10^6 bytes).

    bench_tokenizers.py BENCH_PROGRAM SHARED_DIR

BENCH_PROGRAM is build/release/tests/tokenizer_bench. SHARED_DIR has data/books and tokenizers. Kinds that it has no file of
are trained on the books with 32,000 tokens: what is measured is speed, not the vocabulary. Fails when
we are less than twice as fast as tokenizers.
"""
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import sentencepiece  # noqa: E402
import tokenizers  # noqa: E402
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers  # noqa: E402

REPEATS = 3
QWEN2_REGEX = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
               r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def train_byte_level(books, path, normalizer, pre):
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizer
    tok.pre_tokenizer = pre
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(books, trainers.BpeTrainer(vocab_size=32000, show_progress=False,
                                                       initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tok.save(path)


def train_unigram(books, directory):
    lines = [line for book in books for line in book.split("\n") if line.strip()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=os.path.join(directory, "m"), model_type="unigram", vocab_size=16000,
        minloglevel=2, num_threads=2, input_sentence_size=100000)
    os.rename(os.path.join(directory, "m.model"), os.path.join(directory, "tokenizer.model"))
    os.remove(os.path.join(directory, "m.vocab"))


def prepare(shared, root, books):
    """Directories by name, each with tokenizer.json or tokenizer.model."""
    def place(name, target, source=None):
        directory = os.path.join(root, name)
        os.makedirs(directory)
        if source:
            shutil.copy(os.path.join(shared, "tokenizers", source), os.path.join(directory, target))
        return directory

    place("llama3_json", "tokenizer.json", "llama3-tokenizer.json")
    place("llama2_json", "tokenizer.json", "llama2-tokenizer.json")
    place("llama2_sentencepiece", "tokenizer.model", "llama2-tokenizer.model")
    split = pre_tokenizers.Split(Regex(QWEN2_REGEX), "isolated")
    byte = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    train_byte_level(books, os.path.join(place("qwen2_json", None), "tokenizer.json"), normalizers.NFC(),
                     pre_tokenizers.Sequence([split, byte]))
    train_byte_level(books, os.path.join(place("smollm_json", None), "tokenizer.json"), None, pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]))
    train_unigram(books, place("unigram_sentencepiece", None))
    return sorted(os.listdir(root))


def best(run, total):
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return total / min(seconds) / 1e6


def theirs(directory, books, total):
    path = os.path.join(directory, "tokenizer.json")
    if os.path.exists(path):
        tok = Tokenizer.from_file(path)
        encode = lambda text: tok.encode(text, add_special_tokens=False)
        # The better of whole books and their lines, which is quicker for it.
        lines = [b.split("\n") for b in books]
        return "tokenizers", max(best(lambda: [encode(b) for b in books], total),
                                 best(lambda: [encode(x) for b in lines for x in b], total))
    sp = sentencepiece.SentencePieceProcessor(model_file=os.path.join(directory, "tokenizer.model"))
    # By line, as its own command does: a whole book in one string is not what it is made for.
    lines = [b.split("\n") for b in books]
    return "sentencepiece", best(lambda: [sp.encode(x, num_threads=1) for x in lines], total)


def main():
    bench, shared = sys.argv[1], sys.argv[2]
    books = []
    for path in sorted(glob.glob(os.path.join(shared, "data", "books", "*.txt"))):
        with open(path, encoding="utf-8", newline="") as f:
            books.append(f.read())
    total = sum(len(b.encode()) for b in books)
    failed = False
    with tempfile.TemporaryDirectory() as root:
        names = prepare(shared, root, books)
        dirs = [os.path.join(root, n) for n in names]
        out = subprocess.run([bench, *dirs, "--benchmark_filter=^encode/[^/]*$", "--benchmark_format=json", "--benchmark_min_time=1",
                              f"--benchmark_repetitions={REPEATS}"], check=True, capture_output=True, text=True,
                             env={**os.environ, "SINKLORA_SHARED_DIR": shared}).stdout
        ours = {}
        for row in json.loads(out)["benchmarks"]:
            if row["run_type"] == "iteration":
                name = row["run_name"].split("/")[1]
                ours[name] = max(ours.get(name, 0), row["bytes_per_second"] / 1e6)
        print(f"{total} bytes in {len(books)} books; tokenizers {tokenizers.__version__}, sentencepiece {sentencepiece.__version__}")
        print(f"{'kind':24}{'ours':>8}{'theirs':>8}  {'ratio':>6}  library")
        for name, directory in zip(names, dirs):
            library, speed = theirs(directory, books, total)
            ratio = ours[name] / speed
            print(f"{name:24}{ours[name]:8.1f}{speed:8.1f}  {ratio:6.1f}  {library}")
            failed |= library == "tokenizers" and ratio < 2
    return 1 if failed else 0


sys.exit(main())
