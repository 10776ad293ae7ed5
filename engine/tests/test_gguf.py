import json
import re
from itertools import pairwise
from pathlib import Path
from pipes import EngineProcess

import mlx.core as mx
import numpy as np
import pytest
import regex
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlx.utils import tree_flatten
from tokenizers import Tokenizer

from gguf_writer import Data, decode, random_data, write_gguf
from mlx_engine import gguf_file
from mlx_engine.gguf import convert
from mlx_engine.load import load_model, total_params
from mlx_engine.protocol import EngineError

HEADS, KV_HEADS, HEAD_DIM, LAYERS, WIDTH, INNER = 4, 2, 16, 2, 64, 96
ROWS = 288  # of the embedding: vocabularies are padded


def byte_characters() -> dict[int, str]:
    """GPT-2's letters for bytes: printable ones stand for themselves, the rest for 256, 257 …"""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(rest)}


BYTES = byte_characters()
TOKENS = ["<|end|>", "<|user|>", "<tool>", *BYTES.values(), "he", "Ġt", "Ġthe", "12", "123"]
BPE_KEYS = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": [3, 3, 4] + [1] * (len(TOKENS) - 3),
    "tokenizer.ggml.merges": ["h e", "Ġ t", "Ġt he", "1 2", "12 3"],
    "tokenizer.ggml.eos_token_id": 0,
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.chat_template": "{% for m in messages %}<|user|>{{ m['content'] }}<|end|>{% endfor %}",
}


def keys(architecture: str = "llama", **changes) -> dict:
    found = {
        "general.architecture": architecture,
        f"{architecture}.block_count": LAYERS,
        f"{architecture}.context_length": 512,
        f"{architecture}.embedding_length": WIDTH,
        f"{architecture}.feed_forward_length": INNER,
        f"{architecture}.attention.head_count": HEADS,
        f"{architecture}.attention.head_count_kv": KV_HEADS,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{architecture}.rope.freq_base": 10000.0,
        **BPE_KEYS,
        **changes,
    }
    return {key: value for key, value in found.items() if value is not None}


def tensors(architecture: str = "llama", type: str = "Q4_1", embedding: str = "Q8_0", head: str | None = None) -> dict:
    random = np.random.default_rng(7)
    made = {"token_embd.weight": random_data(embedding, (ROWS, WIDTH), random)}
    if head:
        made["output.weight"] = random_data(head, (ROWS, WIDTH), random)
    made["output_norm.weight"] = random_data("F32", (WIDTH,), random)
    rows = {"attn_q": HEADS * HEAD_DIM, "attn_k": KV_HEADS * HEAD_DIM, "attn_v": KV_HEADS * HEAD_DIM}
    shapes = {name: (count, WIDTH) for name, count in rows.items()}
    shapes |= {"attn_output": (WIDTH, WIDTH), "ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH)}
    shapes |= {"ffn_down": (WIDTH, INNER)}
    for layer in range(LAYERS):
        for name, shape in shapes.items():
            made[f"blk.{layer}.{name}.weight"] = random_data(type, shape, random)
        norms = {"attn_norm": WIDTH, "ffn_norm": WIDTH}
        norms |= {"attn_q_norm": HEAD_DIM, "attn_k_norm": HEAD_DIM} if architecture == "qwen3" else {}
        for name, width in norms.items():
            made[f"blk.{layer}.{name}.weight"] = random_data("F32", (width,), random)
        if architecture == "qwen2":
            for name, count in rows.items():
                made[f"blk.{layer}.{name}.bias"] = random_data("F32", (count,), random)
    return made


MLX_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def in_model(name: str, values: np.ndarray, heads: dict[str, int]) -> tuple[str, np.ndarray]:
    """The parameter's name and its rows in rotary order: row 2i+half of a head in the file is row half·d/2+i."""
    layer, part, kind = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(\w+)", name).groups()
    if part in heads:
        size = len(values) // heads[part]
        order = [head * size + 2 * i + half for head in range(heads[part]) for half in (0, 1) for i in range(size // 2)]
        values = values[order]
    return ".".join(filter(None, [layer and f"model.layers.{layer}", MLX_NAMES[part], kind])), values


def assert_same_values(folder: Path, values: dict[str, np.ndarray], heads: dict[str, int]) -> None:
    """Equal without tolerance (a zero's sign apart, which packed weights don't have), and nothing else is there."""
    loaded = load_model(folder, dtype=mx.float32)
    parameters = dict(tree_flatten(loaded.model.parameters()))
    expected = dict(in_model(name, array, heads) for name, array in values.items())
    assert set(parameters) == set(expected)
    for name, array in expected.items():
        assert np.array_equal(np.array(parameters[name]), array), name


# ---- weights ----


@pytest.mark.parametrize("type", ["Q4_0", "Q4_1", "Q8_0", "F16", "BF16", "F32"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_weights_keep_their_bits(tmp_path, type, architecture):
    made = tensors(architecture, type, head="Q4_0" if architecture == "qwen3" else None)
    write_gguf(tmp_path / "m.gguf", keys(architecture), made)
    total = convert(tmp_path / "m.gguf", tmp_path / "m")
    heads = {"attn_q": HEADS, "attn_k": KV_HEADS} if architecture == "llama" else {}
    assert_same_values(tmp_path / "m", {name: data.values() for name, data in made.items()}, heads)
    assert total == sum(np.prod(data.shape) for data in made.values())
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["tie_word_embeddings"] is (architecture != "qwen3")
    bits = {"Q4_0": 4, "Q4_1": 4, "Q8_0": 8}.get(type, 8)
    assert config["quantization"]["bits"] == bits
    if bits == 4:
        assert config["quantization"]["model.embed_tokens"] == {"group_size": 32, "bits": 8}


def test_a_file_without_packed_tensors_gets_no_quantization(tmp_path):
    write_gguf(tmp_path / "m.gguf", keys(), tensors(type="F16", embedding="F16"))
    convert(tmp_path / "m.gguf", tmp_path / "m")
    assert "quantization" not in json.loads((tmp_path / "m" / "config.json").read_text())


def test_the_real_model_keeps_its_bits(smollm2_gguf, smollm2):
    gguf = gguf_file.read(smollm2_gguf)
    data = smollm2_gguf.read_bytes()
    assert {tensor.type for tensor in gguf.tensors.values()} == {"Q4_1", "Q8_0", "F32"}
    assert gguf.tensors["token_embd.weight"].type == "Q8_0"
    values = {t.name: decode(t.type, data[t.offset : t.offset + t.size], t.shape) for t in gguf.tensors.values()}
    assert_same_values(smollm2, values, {"attn_q": 9, "attn_k": 3})


def test_the_real_model_counts_its_parameters_packed_or_not(smollm2):
    """Tied: the embedding is the head, and counts once."""
    for keep in (False, True):
        loaded = load_model(smollm2, dtype=mx.float32, keep_quantized=keep)
        assert "lm_head" not in loaded.model
        assert total_params(loaded.model) == 134_515_008


# ---- config ----


def test_config_says_what_the_file_says(tmp_path):
    write_gguf(
        tmp_path / "m.gguf", keys(**{"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}), tensors()
    )
    convert(tmp_path / "m.gguf", tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert (config["rms_norm_eps"], config["rope_theta"], config["max_position_embeddings"]) == (1e-05, 10000.0, 512)
    assert config["rope_scaling"] == {"rope_type": "linear", "factor": 4.0}
    assert config["eos_token_id"] == [0]
    assert json.loads((tmp_path / "m" / "generation_config.json").read_text())["eos_token_id"] == [0]


def test_llama_3_rotary_factors_are_recognised(tmp_path):
    from mlx_lm.models.rope_utils import Llama3RoPE

    expected = {"factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_type": "llama3"}
    expected |= {"original_max_position_embeddings": 8192}
    rope = Llama3RoPE(HEAD_DIM, 131072, base=500000.0, scaling_config=expected)
    plain = 500000.0 ** (np.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    factors = (np.array(rope._freqs) / plain).astype(np.float32)
    made = {**tensors(), "rope_freqs.weight": Data("F32", factors.shape, factors.tobytes())}
    write_gguf(tmp_path / "m.gguf", keys(**{"llama.rope.freq_base": 500000.0}), made)
    convert(tmp_path / "m.gguf", tmp_path / "m")
    assert json.loads((tmp_path / "m" / "config.json").read_text())["rope_scaling"] == expected
    made["rope_freqs.weight"] = Data("F32", factors.shape, (factors * 1.5).tobytes())
    write_gguf(tmp_path / "other.gguf", keys(), made)
    with pytest.raises(EngineError, match="not the factors of any Llama 3"):
        convert(tmp_path / "other.gguf", tmp_path / "other")


# ---- tokens ----

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


# ---- what is refused ----


def refusal(tmp_path: Path, metadata: dict, made: dict) -> str:
    write_gguf(tmp_path / "m.gguf", metadata, made)
    with pytest.raises(EngineError) as raised:
        convert(tmp_path / "m.gguf", tmp_path / "m")
    assert raised.value.kind == "invalid_model"
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]  # nothing half-made is left
    return str(raised.value).removeprefix(f"{tmp_path / 'm.gguf'}: ")


def test_an_unsupported_type_is_named_with_its_tensor(tmp_path):
    made = tensors()
    made["blk.1.ffn_down.weight"] = random_data("Q4_K", (256, 256), np.random.default_rng(0))
    supported = "Q4_0, Q4_1, Q8_0, F32, F16, BF16 are read"
    assert refusal(tmp_path, keys(), made) == f"tensor blk.1.ffn_down.weight is Q4_K; {supported}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"general.architecture": "mamba"}, "architecture 'mamba'; llama, qwen2, qwen3 are read"),
        ({"llama.expert_count": 8}, "a mixture of experts"),
        ({"llama.block_count": None}, "llama.block_count is missing"),
        ({"llama.block_count": 1}, "tensor 'blk.1.attn_q.weight' has no place"),
        ({"llama.attention.head_count": 8}, "tensor blk.0.attn_k.weight has shape"),
        ({"llama.rope.dimension_count": 8}, "rotates 8 of 16 dimensions"),
        ({"llama.rope.scaling.type": "yarn"}, "rope scaling 'yarn'"),
        ({"tokenizer.ggml.pre": "klingon"}, "tokenizer.ggml.pre 'klingon' is not known"),
        ({"tokenizer.ggml.model": "bert"}, "tokenizer model 'bert'"),
        ({"tokenizer.ggml.tokens": None}, "tokenizer.ggml.tokens is missing"),
        ({"tokenizer.ggml.tokens": [*TOKENS, "more"]}, f"{len(TOKENS)} token types for {len(TOKENS) + 1} tokens"),
        (
            {
                "tokenizer.ggml.tokens": [*map(str, range(300))],
                "tokenizer.ggml.token_type": None,
                "tokenizer.ggml.merges": ["1 2"],
            },
            "300 tokens but 288 rows",
        ),
        ({"tokenizer.ggml.tokens": ["x", "x"]}, "texts, each once"),
        ({"tokenizer.ggml.merges": ["x yz"]}, "tokenizer.ggml.merges: 'x yz' is not a pair"),
        ({"tokenizer.ggml.eos_token_id": 70000}, "tokenizer.ggml.eos_token_id is 70000"),
        ({"general.alignment": 24 + 1}, "malformed GGUF file: general.alignment 25"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(tmp_path, changes, message):
    metadata = {key: value for key, value in (keys() | changes).items() if value is not None}
    assert message in refusal(tmp_path, metadata, tensors())


def test_a_tensor_that_is_missing_or_strange_is_told(tmp_path):
    made = tensors()
    del made["token_embd.weight"]
    assert refusal(tmp_path, keys(), made) == "no tensor token_embd.weight"
    made = {**tensors(), "blk.0.ssm_a.weight": random_data("F32", (4,), np.random.default_rng(0))}
    assert "tensor 'blk.0.ssm_a.weight' has no place in a llama model" in refusal(tmp_path, keys(), made)


def test_a_target_that_exists_is_left_alone(tmp_path):
    write_gguf(tmp_path / "m.gguf", keys(), tensors())
    (tmp_path / "m").mkdir()
    with pytest.raises(EngineError, match="exists already") as raised:
        convert(tmp_path / "m.gguf", tmp_path / "m")
    assert raised.value.kind == "invalid_parameters"


def test_every_truncation_is_noticed(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", keys(), tensors())
    data = path.read_bytes()
    for length in [*range(40), *range(40, len(data) - 32, 997)]:
        path.write_bytes(data[:length])
        with pytest.raises(EngineError, match=r"m\.gguf: (not a GGUF file|cut short|malformed)"):
            gguf_file.read(path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=4), big=st.booleans()
)
def test_a_mutated_header_is_refused_or_read(tmp_path, changes, big):
    """Whatever passes the check is handed to MLX's C parser, which must survive it."""
    path = write_gguf(tmp_path / "f.gguf", keys(), tensors())
    data = bytearray(path.read_bytes())
    for at, value in changes:
        data[at] = value
        if big:
            data[at : at + 8] = b"\xff" * 7 + bytes([value])
    path.write_bytes(data)
    try:
        gguf_file.read(path)
    except EngineError as refused:
        error = refused
    else:
        mx.eval(mx.load(str(path), format="gguf"))
        return
    assert error.kind == "invalid_model"
    assert "\n" not in str(error)


# ---- the process ----


def test_import_over_the_pipes(tmp_path):
    write_gguf(tmp_path / "m.gguf", keys(), tensors())
    with EngineProcess("-m", "mlx_engine.gguf") as process:
        process.send("import", gguf_path=str(tmp_path / "m.gguf"), output_path=str(tmp_path / "m"))
        frames = process.until("imported")
        assert process.wait() == 0
    stages = [frame["stage"] for frame in frames if frame["type"] == "stage"]
    assert list(dict.fromkeys(stages)) == ["reading", "tokenizer", "weights"]
    assert frames[-1]["path"] == str(tmp_path / "m")
    assert frames[-1]["total_params"] == total_params(load_model(tmp_path / "m", dtype=mx.float32).model)
    with EngineProcess("-m", "mlx_engine.gguf") as process:
        process.send("import", gguf_path=str(tmp_path / "none.gguf"), output_path=str(tmp_path / "n"))
        assert process.until("error")[-1]["message"] == f"{tmp_path / 'none.gguf'}: no such file"
        assert process.wait() == 1
