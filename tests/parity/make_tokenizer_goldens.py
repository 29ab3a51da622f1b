#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains small tokenizers of every kind with the libraries that models come from, and writes what those libraries
make of difficult strings: tests/parity/data/tokenizers. Run once; the tests need no Python.

    make_tokenizer_goldens.py TEXT_DIR [OUT_DIR]

TEXT_DIR has plain-text books (*.txt, UTF-8, public domain) to train on.
"""
import base64
import glob
import json
import os
import random
import shutil
import sys
import tempfile
import unicodedata

import sentencepiece
import tiktoken
import tokenizers
from sentencepiece import sentencepiece_model_pb2 as sp_pb2
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

LLAMA3_REGEX = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2_REGEX = LLAMA3_REGEX.replace(r"\p{N}{1,3}", r"\p{N}")
TEKKEN_REGEX = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
                r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
                r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SPACE = "\u2581"


def strings():
    """Texts that tokenizers disagree about."""
    out = ["", "a", "Hello", "Hello world", " Hello world", "Hello world ", "  Hello   world  ", "HELLO hELLo"]
    out += [" " * n for n in (1, 2, 3, 4, 7, 16, 33)]
    out += ["\t", "\t\t", " \t ", "a\tb", "\n", "\n\n", "\n\n\n\n", "a\nb", "a\n\nb", "a \n b", "a\r\nb", "\r", "\r\r\n",
            "  \n  \n  x", "x \n\n  \t y", "line  \n", "\n \n \n"]
    out += ["a\u00a0b", "\u00a0\u00a0x", "a\u3000b", "a\u2003b", "\u200b", "a\u200bb", "a\u200cb\u200dc", "a\u2028b\u2029c",
            "a\u0085b", "\ufeffa", "a\u180eb", "a\u1680b", "\u202ea\u202c", "a\u00adb"]
    out += [SPACE, "a" + SPACE + "b", SPACE * 3, " " + SPACE + " a", SPACE + " "]
    out += ["I'm, you're, he'd, we'll, they've, it's, can't", "I'M YOU'RE HE'D WE'LL", "'s's 's", "'\u017f it'\u017f",
            "\u2019s don\u2019t", "o'clock 'tis"]
    out += ["0", "12", "123", "1234", "12345", "1234567890", "3.14159", "1,234,567.89", "1e-10", "0x1F", "2024-01-31",
            "a1b22c333d4444", "\u0661\u0662\u0663", "\u0967\u0968\u0969\u096a", "x\u00b2 \u00bd \u2167 \u2460", "\uff11\uff12\uff13\uff14"]
    out += ["\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 family", "\U0001f3f3\ufe0f\u200d\U0001f308",
            "\U0001f44d\U0001f3fd ok", "\u2764\ufe0f", "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", "1\ufe0f\u20e3", "a\U0001f600b \U0001f602\U0001f602"]
    out += ["\u4f60\u597d\uff0c\u4e16\u754c\uff01", "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3067\u3059\u3002", "\ud55c\uad6d\uc5b4 \ud14d\uc2a4\ud2b8",
            "\u1112\u1161\u11ab\u1100\u116e\u11a8", "\u4e00\u4e8c\u4e09abc\u56db\u4e94", "\uff28\uff45\uff4c\uff4c\uff4f \uff76\uff9e\uff77\uff9e", "\U00020bb7\u91ce\u5bb6",
            "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645", "\u0645\u064e\u0631\u0652\u062d\u064e\u0628\u064b\u0627", "\ufefb \ufdfa", "\u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd",
            "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01", "\u0e01\u0e33 \u0e01\u0e4d\u0e32", "\u0928\u092e\u0938\u094d\u0924\u0947", "\u0ba4\u0bae\u0bbf\u0bb4\u0bcd", "\u10d2\u10d0\u10db\u10d0\u10e0\u10ef\u10dd\u10d1\u10d0",
            "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440", "\u0393\u03b5\u03b9\u03ac \u03c3\u03bf\u03c5 \u039a\u03cc\u03c3\u03bc\u03b5"]
    out += ["e\u0301", "\u00e9", "caf\u00e9 cafe\u0301", "a\u0323\u0307 a\u0307\u0323", "\u1e69 s\u0323\u0307 s\u0307\u0323", "\u212b \u2126 \u212a",
            "\u01c4 \ufb01 \ufb03", "\u0958", "\u0344", "q\u0307\u0323\u0331\u0301", "\u0301a", " \u0301", "Z\u0351\u036b\u0343\u036a", "\u1100\u1161\u11a8",
            "\uac00\u11a8", "\u2adc", "\U0001d15e", "x\u0300\u0345\u0316", "\u0f71\u0f72\u0f74", "\u03b1\u0345\u0301", "\u2000\u2001", "\uf900\U0002f800"]
    out += ["\x00", "a\x00b", "\x01\x02\x03", "\x1b[31mred\x1b[0m", "\x7f", "\x80\x9f", "\ufffd", "\ufffe\uffff", "\U0010ffff", "\ue000"]
    out += ["def f(x):\n    return x  # ok\n", "for (int i = 0; i < n; ++i) {\n\tsum += a[i];\n}\n", "{\"key\": [1, 2.5, null]}",
            "<div class=\"x\">a&amp;b</div>", "http://example.org/a?b=c#d", "a_b __init__ $x @y #z", "x==y!=z<=w", "-->", "...", "?!?!", "(((())))",
            "```cpp\nint main() {}\n```", "path/to\\file", "----------------", "=" * 40, "***bold***", "\u201cquoted\u201d \u2014 dash\u2026"]
    out += ["<s>", "</s>", "<unk>", "<pad>", "a<s>b</s>c", "<|endoftext|>", "x<|endoftext|>y", "<|im_start|>user\nhi<|im_end|>\n",
            "<|im_start|>", "<|im_start", "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>", "<0x41>", "<0x0A>",
            "<0x0a>", "[INST] hi [/INST]", "[UNK]", "<s", "s>", "< s >", "<s><s>", " <s> ", "<<s>>"]
    out += ["  [L]  [L] x", "x [R]  y [R]", "word[W]word [W] [W].", "[N] a[N]b", "[L][R]", "[mask] [MASK]", "\u00e9[N]e\u0301[N]",
            "caf\u00e9! cafe\u0301!", "a [B]  b", "[W]", "\u00e9[W]", "[W]\u0301", " [L]", "\u3000[L]\u3000[R]\u3000"]
    out += ["a" * 50, "ab" * 40, "abc" * 30, "-" * 100, "\n" * 30, "z" + "aA" * 20, "\u00e4" * 20, "\U0001f600" * 10, "\u4e00" * 30, ". " * 20,
            "the the the the", "Mr. Darcy walked into the room; nobody noticed."]
    rng = random.Random(7)
    alphabet = ["the ", "ing", " a", "  ", "\n", "\t", "1", "22", "\u00e9", "e\u0301", "\u4e2d", "\U0001f600", "\u0e01\u0e33", "'s", "<s>", SPACE, "-", "\u0301", "x",
                "Q", "\u00a0", "\u0645", "\r\n", "\x01", "[N]", "</s>", ".", "\uff21", "\u200d"]
    for _ in range(60):
        out.append("".join(rng.choice(alphabet) for _ in range(rng.randint(3, 14))))
    for _ in range(20):
        points = []
        while len(points) < 12:
            c = rng.randrange(0x20, 0x30000)
            if not 0xD800 <= c < 0xE000 and unicodedata.category(chr(c)) != "Cn":
                points.append(chr(c))
        out.append("".join(points))
    return out


def invalid():
    """Byte strings that are not UTF-8, and where Python's decoder says they go wrong."""
    cases = [b"\xff", b"ab\xfe", b"\x80", b"a\xc3", b"\xc3(", b"\xc0\x80", b"\xe2\x82", b"x\xe2\x28\xa1", b"\xf0\x9f\x98", b"\xf4\x90\x80\x80",
             b"\xf8\x88\x80\x80\x80", "a\ud800b".encode("utf-8", "surrogatepass"), "\udc00".encode("utf-8", "surrogatepass"),
             "x\ud83d\ude00y".encode("utf-8", "surrogatepass"), "\u4f60".encode() + b"\xe4\xbd", b"ok \xed\xbf\xbf", b"\xef\xbb\xbf\xff"]
    out = []
    for data in cases:
        try:
            data.decode("utf-8")
            raise SystemExit(f"{data!r} is valid")
        except UnicodeDecodeError as error:
            out.append({"b64": base64.b64encode(data).decode(), "offset": error.start})
    return out


class Goldens:
    def __init__(self, out):
        self.out = out
        self.texts = strings()
        os.makedirs(out, exist_ok=True)
        self.write("strings.json", self.texts)
        self.write("invalid.json", invalid())

    def write(self, name, value):
        path = os.path.join(self.out, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            if isinstance(value, list):
                f.write("[" + ",\n".join(json.dumps(v, separators=(",", ":")) for v in value) + "]\n")
            else:
                f.write(json.dumps(value, separators=(",", ":")) + "\n")

    def add(self, name, plain, special, decode):
        """`plain` and `special` give ids, `decode` text. Rows: [ids, decoded text or null when it is the string,
        ids with special tokens, text decoded from those] - the last two only where they differ."""
        rows = []
        for text in self.texts:
            ids = plain(text)
            decoded = decode(ids)
            row = [ids, None if decoded == text else decoded]
            if special is not None:
                parsed = special(text)
                if parsed != ids:
                    row += [parsed, decode(parsed)]
            rows.append(row)
        self.write(f"{name}/golden.json", rows)

    def add_json(self, name, spec, config=None):
        text = json.dumps(spec, ensure_ascii=False, separators=(",", ":"))
        tok = Tokenizer.from_str(text)

        def encode(parse):
            def run(s):
                tok.encode_special_tokens = not parse
                return tok.encode(s, add_special_tokens=False).ids
            return run

        # A token that is looked for in normalized text decodes to its own text here; some versions of the library give
        # the normalized form, with a space before it or as broken bytes.
        for added in spec["added_tokens"]:
            added["normalized"] = False
        plain = Tokenizer.from_str(json.dumps(spec))
        self.add(name, encode(False), encode(True), lambda ids: plain.decode(ids, skip_special_tokens=True))
        with open(os.path.join(self.out, name, "tokenizer.json"), "w") as f:
            f.write(text + "\n")
        if config:
            self.write(f"{name}/tokenizer_config.json", config)

    def add_model(self, name, proto):
        data = proto.SerializeToString()
        sp = sentencepiece.SentencePieceProcessor(model_proto=data)
        self.add(name, sp.encode, None, sp.decode)
        with open(os.path.join(self.out, name, "tokenizer.model"), "wb") as f:
            f.write(data)


def token(i, content, special=False, **flags):
    return {"id": i, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": not special, "special": special, **flags}


def with_added(spec, first):
    """Adds special tokens, and tokens with each flag."""
    n = max(max(spec["model"]["vocab"].values()), *(t["id"] for t in spec["added_tokens"]), -1) + 1
    names = [(t, dict(special=True)) for t in first]
    names += [("[L]", dict(lstrip=True)), ("[R]", dict(rstrip=True)), ("[B]", dict(lstrip=True, rstrip=True, special=True)),
              ("[W]", dict(single_word=True)), ("[N]", dict(normalized=False)), ("cafe\u0301!", dict()), ("[mask]", dict(special=True))]
    for content, flags in names:
        known = spec["model"]["vocab"].get(content)
        spec["added_tokens"].append(token(n if known is None else known, content, **flags))
        n += known is None
    return spec


def byte_level(corpus, size, pre, use_regex, normalizer=None, **model):
    tok = Tokenizer(models.BPE())
    byte = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
    tok.pre_tokenizer = pre_tokenizers.Sequence([*pre, byte]) if pre else byte
    tok.decoder = decoders.ByteLevel()
    if normalizer:
        tok.normalizer = normalizer
    tok.train_from_iterator(corpus, trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    spec = json.loads(tok.to_str())
    spec["model"].update(model)
    return spec


def old_merges(spec):
    spec["model"]["merges"] = [" ".join(m) if isinstance(m, list) else m for m in spec["model"]["merges"]]
    return spec


def train_model(corpus, **options):
    with tempfile.TemporaryDirectory() as d:
        prefix = os.path.join(d, "m")
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(corpus), model_prefix=prefix, minloglevel=2,
                                                 num_threads=1, max_sentence_length=1 << 20, **options)
        proto = sp_pb2.ModelProto()
        with open(prefix + ".model", "rb") as f:
            proto.ParseFromString(f.read())
        return proto


def metaspace(proto, normalizer, pre_tokenizer, decoder, byte_fallback=True, fuse_unk=True):
    """The tokenizer.json of a SentencePiece BPE model, as transformers converts it."""
    pieces = [p for p in proto.pieces if byte_fallback or p.type != 6]
    vocab = {p.piece: i for i, p in enumerate(pieces)}
    score = {p.piece: p.score for p in pieces}
    merges = []
    for piece in vocab:
        local = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in vocab and piece[i:] in vocab]
        merges += [(*m, score[piece]) for m in sorted(local, key=lambda m: (vocab[m[0]], vocab[m[1]]))]
    merges.sort(key=lambda m: -m[2])
    special = [token(i, p.piece, special=True) for i, p in enumerate(pieces) if p.type in (2, 3)]
    template = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer,
            "post_processor": {"type": "TemplateProcessing", "single": template, "pair": template + [
                {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
            "decoder": decoder,
            "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": fuse_unk, "byte_fallback": byte_fallback, "ignore_merges": False,
                      "vocab": vocab, "merges": [f"{a} {b}" for a, b, _ in merges]}}


PREPEND = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE},
                                               {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}]}
LLAMA_DECODER = {"type": "Sequence", "decoders": [
    {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}


def meta(scheme, split):
    return {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": split}


def main():
    books = sorted(glob.glob(os.path.join(sys.argv[1], "*.txt")))[:3]
    out = sys.argv[2] if len(sys.argv) > 2 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "tokenizers")
    shutil.rmtree(out, ignore_errors=True)
    goldens = Goldens(out)
    corpus = []
    for book in books:
        with open(book, encoding="utf-8") as f:
            corpus += [line for line in f.read(300_000).split("\n") if line.strip()]
    # The strings too, so that there are tokens for all scripts.
    corpus += [s.replace("\0", "") for s in goldens.texts[:-80] if s.strip() and "\n" not in s and "\r" not in s] * 4

    split = lambda regex: pre_tokenizers.Split(Regex(regex), "isolated")
    gpt2 = byte_level(corpus, 420, [], True)
    goldens.add_json("gpt2", old_merges(with_added(gpt2, ["<|endoftext|>"])))
    llama3 = byte_level(corpus, 420, [split(LLAMA3_REGEX)], False, ignore_merges=True)
    ranks = {}
    alphabet = {c: b for b, c in byte_alphabet().items()}
    for b in range(256):
        ranks[bytes([b])] = b
    for left, right in llama3["model"]["merges"]:
        ranks.setdefault(bytes(alphabet[c] for c in left + right), len(ranks))
    goldens.add_json("llama3", with_added(llama3, ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>",
                                                    "<|end_header_id|>", "<|eot_id|>"]))
    goldens.add_json("qwen2", with_added(byte_level(corpus, 420, [split(QWEN2_REGEX)], False, normalizers.NFC()),
                                         ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]))
    goldens.add_json("smollm", with_added(byte_level(corpus, 400, [pre_tokenizers.Digits(individual_digits=True)], True),
                                          ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]))
    goldens.add_json("digits_runs", byte_level(corpus, 340, [pre_tokenizers.Digits(individual_digits=False)], True))
    goldens.add_json("tekken", with_added(byte_level(corpus, 420, [split(TEKKEN_REGEX)], False, ignore_merges=True),
                                          ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]))
    tiktoken_golden(goldens, ranks)

    common = dict(vocab_size=640, character_coverage=0.9992)
    llama2 = train_model(corpus, model_type="bpe", byte_fallback=True, normalization_rule_name="identity",
                         remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True,
                         user_defined_symbols=["[N]", "[mask]"], **common)
    goldens.add_model("sp_bpe_llama2", llama2)
    plain = sp_pb2.ModelProto()
    plain.CopyFrom(llama2)
    for piece in plain.pieces:
        if piece.type == 4:
            piece.type = 1
            piece.score = -10000
    goldens.add_json("llama2_prepend", with_added(metaspace(plain, PREPEND, None, LLAMA_DECODER), []))
    goldens.add_json("metaspace_first", with_added(metaspace(plain, None, meta("first", False), LLAMA_DECODER), []))
    goldens.add_json("metaspace_always", with_added(metaspace(plain, None, meta("always", True), LLAMA_DECODER), []))
    goldens.add_json("metaspace_never", metaspace(plain, None, meta("never", False), {
        "type": "Sequence", "decoders": [*LLAMA_DECODER["decoders"][:3]]}))
    goldens.add_json("metaspace_unk", metaspace(plain, None, meta("always", True), meta("always", True), byte_fallback=False))
    goldens.add_json("metaspace_unk_runs", metaspace(plain, None, meta("first", True), meta("first", True),
                                                     byte_fallback=False, fuse_unk=False))

    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        for source, target in [("e\u0301", "\u00e9"), ("\uff21", "A"), ("\u00a0", " "), ("\ufb01", "fi"), ("\t", " "), ("\x01", ""),
                               ("\u2026", "..."), ("\u3000", "  "), ("\u4e2d", "\u4e2d \u56fd")]:
            rules.write(" ".join(f"{ord(c):X}" for c in source) + "\t" + " ".join(f"{ord(c):X}" for c in target) + "\n")
        rules.flush()
        goldens.add_model("sp_bpe_rules", train_model(
            corpus, model_type="bpe", normalization_rule_tsv=rules.name, user_defined_symbols=["[N]", "e\u0301!"], **common))
    goldens.add_model("sp_bpe_suffix", train_model(
        corpus, model_type="bpe", normalization_rule_name="identity", treat_whitespace_as_suffix=True, **common))
    goldens.add_model("sp_unigram_nmt_nfkc", train_model(corpus, model_type="unigram", **common))
    goldens.add_model("sp_unigram_bytes", train_model(
        corpus, model_type="unigram", normalization_rule_name="identity", byte_fallback=True, add_dummy_prefix=False,
        remove_extra_whitespaces=False, user_defined_symbols=["[N]", "ing", "[mask]"], vocab_size=700, character_coverage=0.99))
    goldens.add_model("sp_unigram_suffix", train_model(
        corpus, model_type="unigram", normalization_rule_name="identity", treat_whitespace_as_suffix=True,
        remove_extra_whitespaces=False, **common))

    edited = sp_pb2.ModelProto()
    edited.CopyFrom(llama2)
    for piece in edited.pieces:
        if piece.type == 1 and len(piece.piece) == 3 and piece.piece.isascii():
            piece.type = 5  # unused
    goldens.add_model("sp_bpe_unused", edited)
    edited.CopyFrom(llama2)
    kept = [p for p in edited.pieces if p.piece not in ("h", "n", "\u4e00")]
    del edited.pieces[:]
    edited.pieces.extend(kept)
    goldens.add_model("sp_bpe_missing_characters", edited)
    edited.CopyFrom(llama2)
    edited.normalizer_spec.escape_whitespaces = False
    for piece in edited.pieces:
        piece.piece = piece.piece.replace(SPACE, " ")
    goldens.add_model("sp_bpe_plain_spaces", edited)

    goldens.write("versions.json", {"tokenizers": tokenizers.__version__, "sentencepiece": sentencepiece.__version__,
                                    "tiktoken": tiktoken.__version__, "python": sys.version.split()[0],
                                    "unicode": unicodedata.unidata_version})


def byte_alphabet():
    plain = [*range(33, 127), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    out = {b: chr(b) for b in plain}
    for b in range(256):
        if b not in out:
            out[b] = chr(0x100 + len(out) - len(plain))
    return out


def tiktoken_golden(goldens, ranks):
    """Llama 3's own form: ranks in a file, special tokens by a fixed list."""
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
               "<|reserved_special_token_2|>", "<|reserved_special_token_3|>", "<|start_header_id|>", "<|end_header_id|>",
               "<|reserved_special_token_4|>", "<|eot_id|>"] + [f"<|reserved_special_token_{i}|>" for i in range(5, 251)]
    ids = {s: len(ranks) + i for i, s in enumerate(special)}
    enc = tiktoken.Encoding("llama3", pat_str=LLAMA3_REGEX, mergeable_ranks=ranks, special_tokens=ids)
    goldens.add("tiktoken", lambda s: enc.encode(s, disallowed_special=()), lambda s: enc.encode(s, allowed_special="all"),
                lambda i: enc.decode([x for x in i if x < len(ranks)]))
    with open(os.path.join(goldens.out, "tiktoken", "tokenizer.model"), "wb") as f:
        for piece, rank in ranks.items():
            f.write(base64.b64encode(piece) + b" " + str(rank).encode() + b"\n")


main()
