import json
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
import pytest
import regex
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from gguf_models import BPE_KEYS, BYTES, keys, tensors
from gguf_writer import write_gguf
from mlx_engine.gguf import convert
from mlx_engine.models import gguf_file
from mlx_engine.models.load import load_model

GPT2_WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


class TableTokenizer:
    """Byte-level BPE from a GGUF's tables alone, as llama.cpp does it for `smollm`: special tokens first, digits one by
    one, then GPT-2's words, then the merges in their order."""

    def __init__(self, metadata: dict) -> None:
        self.tokens = metadata["tokenizer.ggml.tokens"]
        self.ids = {token: number for number, token in enumerate(self.tokens)}
        types = metadata["tokenizer.ggml.token_type"]
        self.special = sorted((t for t, kind in zip(self.tokens, types, strict=True) if kind in (3, 4)), key=len)[::-1]
        self.ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(metadata["tokenizer.ggml.merges"])}
        self.split = regex.compile("(" + "|".join(map(regex.escape, self.special)) + ")")

    def encode(self, text: str) -> list[int]:
        found = []
        for part in self.split.split(text):
            if part in self.special:
                found.append(self.ids[part])
                continue
            for piece in regex.split(r"(\p{N})", part):
                for word in GPT2_WORDS.findall(piece):
                    found += [self.ids[symbol] for symbol in self.merge([BYTES[byte] for byte in word.encode()])]
        return found

    def merge(self, symbols: list[str]) -> list[str]:
        while len(symbols) > 1:
            ranks = [self.ranks.get(pair, len(self.ranks)) for pair in pairwise(symbols)]
            if min(ranks) == len(self.ranks):
                break
            at = ranks.index(min(ranks))
            symbols = [*symbols[:at], symbols[at] + symbols[at + 1], *symbols[at + 2 :]]
        return symbols


@pytest.fixture(scope="session")
def tables(smollm2_gguf) -> TableTokenizer:
    return TableTokenizer(gguf_file.read(smollm2_gguf).metadata)


@pytest.fixture(scope="session")
def real_tokenizer(smollm2):
    return load_model(smollm2, dtype=mx.float32, lazy=True).tokenizer


# Control characters are left out: what counts as white space among them differs between regex engines.
TEXTS = st.lists(
    st.one_of(
        st.characters(min_codepoint=32, max_codepoint=126),
        st.sampled_from(" \n\t  '0123456789½Ⅷ٣éßñЖяΩ中文字日本語한국어👍🏽🇫🇷\u200d\u0301\u00a0\u2003"),
        st.sampled_from(["<|im_start|>", "<|im_end|>", "'ll", "'S", "http://", "    ", "\n\n\n", " the", " word"]),
    ),
    max_size=40,
).map("".join)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS)
def test_tokens_are_those_of_the_tables_and_decode_to_the_text(tables, real_tokenizer, text):
    ids = real_tokenizer.encode(text, add_special_tokens=False)
    assert ids == tables.encode(text)
    assert real_tokenizer.decode(ids) == text


@pytest.mark.parametrize(
    "text",
    [
        "The capital of France is Paris.",
        "In 2024, 3.14159 wasn't 22/7 — we'll see!\n\n\tdef f(x):\n    return x**2  # ½\n",
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<|endoftext|><file_sep>",
        "   leading and trailing   ",
    ],
)
def test_real_texts_have_the_tokens_of_the_tables(tables, real_tokenizer, text):
    ids = real_tokenizer.encode(text, add_special_tokens=False)
    assert ids == tables.encode(text)
    assert real_tokenizer.decode(ids) == text


def test_the_real_tokenizer_carries_template_and_end(real_tokenizer, tables):
    assert real_tokenizer.eos_token_ids == {2}
    assert tables.tokens[2] == real_tokenizer.eos_token == "<|im_end|>"
    assert real_tokenizer.encode("x") == tables.encode("x")  # add_bos_token is false
    text = real_tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert real_tokenizer.encode(text, add_special_tokens=False) == tables.encode(text)


def tokenizer_of(tmp_path: Path, **changes) -> tuple[Tokenizer, dict]:
    write_gguf(tmp_path / "m.gguf", keys(**changes), tensors())
    convert(tmp_path / "m.gguf", tmp_path / "m")
    config = json.loads((tmp_path / "m" / "tokenizer_config.json").read_text())
    return Tokenizer.from_file(str(tmp_path / "m" / "tokenizer.json")), config


@pytest.mark.parametrize(
    ("pre", "expected"),
    [
        ("smollm", ["Ġ", "1", "2", "3", "Ġthe", "'", "S"]),  # digits one by one
        ("gpt-2", ["Ġ", "123", "Ġthe", "'", "S"]),
        ("llama-bpe", ["Ġ", "123", "Ġthe", "'", "S"]),
        ("qwen2", ["Ġ", "1", "2", "3", "Ġthe", "'", "S"]),
        ("default", ["Ġ", "123", "Ġthe", "'", "S"]),
    ],
)
def test_pre_tokenizers_split_as_their_models_do(tmp_path, pre, expected):
    tokenizer, _ = tokenizer_of(tmp_path, **{"tokenizer.ggml.pre": pre, "tokenizer.ggml.add_bos_token": False})
    assert tokenizer.encode(" 123 the'S").tokens == expected
    assert tokenizer.decode(tokenizer.encode(" 123 the'S").ids) == " 123 the'S"


def test_control_tokens_are_special_and_user_defined_ones_are_text(tmp_path):
    tokenizer, config = tokenizer_of(tmp_path)
    ids = tokenizer.encode("<|user|>the<tool><|end|>").ids
    assert [tokenizer.id_to_token(number) for number in ids] == ["<|user|>", "t", "he", "<tool>", "<|end|>"]
    assert tokenizer.decode(ids) == "the<tool>"
    assert (config["bos_token"], config["eos_token"]) == ("<|user|>", "<|end|>")
    assert config["chat_template"] == BPE_KEYS["tokenizer.chat_template"]


def test_bos_comes_first_where_the_file_says_so(tmp_path):
    tokenizer, config = tokenizer_of(tmp_path, **{"tokenizer.ggml.add_bos_token": True})
    assert config["add_bos_token"] is True
    assert tokenizer.encode("the").tokens == ["<|user|>", "t", "he"]
    assert tokenizer.encode("the", add_special_tokens=False).tokens == ["t", "he"]


WORDS = ["▁", "t", "h", "e", "th", "he", "the", "▁the", "▁t"]
PIECES = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *WORDS]
SCORES = [0.0] * 259 + [-9.0, -1.0, -2.0, -3.0, -5.0, -4.0, -6.0, -7.0, -8.0]
SPM_KEYS = {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": PIECES,
    "tokenizer.ggml.scores": SCORES,
    "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * 9,
    "tokenizer.ggml.merges": None,
    "tokenizer.ggml.pre": None,
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.unknown_token_id": 0,
}


def sentencepiece(text: str) -> list[int]:
    """llama.cpp's: the neighbours that make the piece with the best score merge first, the leftmost of equals."""
    symbols = list("▁" + text.replace(" ", "▁"))
    while True:
        joined = enumerate(a + b for a, b in pairwise(symbols))
        made = [(-SCORES[PIECES.index(piece)], i) for i, piece in joined if piece in PIECES]
        if not made:
            break
        at = min(made)[1]
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
    pieces = [[s] if s in PIECES else [f"<0x{byte:02X}>" for byte in s.encode()] for s in symbols]
    return [PIECES.index(piece) for group in pieces for piece in group]


@pytest.fixture(scope="session")
def spm(tmp_path_factory) -> Tokenizer:
    return tokenizer_of(tmp_path_factory.mktemp("spm"), **SPM_KEYS)[0]


@settings(max_examples=100, deadline=None)
@given(text=st.text("the é中", min_size=1, max_size=20))
def test_sentencepiece_tokens_follow_the_scores(spm, text):
    ids = spm.encode(text, add_special_tokens=False).ids
    assert ids == sentencepiece(text)
    assert spm.decode(ids) == text
    assert spm.encode(text).ids == [1, *ids]  # BOS unless the file says otherwise
