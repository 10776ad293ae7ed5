import json
import re
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlx.utils import tree_flatten

from engine_process import EngineProcess
from gguf_models import HEAD_DIM, HEADS, KV_HEADS, TOKENS, keys, tensors
from gguf_writer import Data, decode, random_data, write_gguf
from mlx_engine.gguf import convert
from mlx_engine.models import gguf_file
from mlx_engine.models.load import load_model, total_params
from mlx_engine.protocol import EngineError

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
