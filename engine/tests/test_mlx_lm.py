"""What mlx-lm's own trainer gets wrong, shown on it, and the same case here.

Each test runs mlx-lm's code first, so that one that fails there after an upgrade says that mlx-lm has mended it.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm import load
from mlx_lm.lora import CONFIG_DEFAULTS
from mlx_lm.tuner.datasets import CacheDataset, ChatDataset
from mlx_lm.tuner.trainer import TrainingArgs, default_loss, grad_checkpoint, iterate_batches
from mlx_lm.tuner.trainer import train as mlx_lm_train
from mlx_lm.tuner.utils import linear_to_lora_layers

from harness import numbers, of, questions, row, train, train_command
from mlx_engine import platform
from mlx_engine.protocol import EngineError
from tiny import make_tiny_model

LORA = {"rank": 4, "scale": 2.0, "dropout": 0.0, "keys": ["self_attn.q_proj", "self_attn.v_proj"]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    platform.setup()
    return make_tiny_model(tmp_path_factory.mktemp("model"))


def theirs(model: Path, rows: list[dict], mask_prompt: bool = False) -> tuple[nn.Module, CacheDataset]:
    """mlx-lm's model with LoRA, and its data set of the same rows."""
    loaded, tokenizer = load(str(model))
    loaded.freeze()
    mx.random.seed(1)
    linear_to_lora_layers(loaded, 2, LORA)
    return loaded, CacheDataset(
        ChatDataset([{"messages": r["messages"]} for r in rows], tokenizer, "messages", mask_prompt)
    )


def batches(data: CacheDataset, size: int, limit: int = 128, seed: int = 0) -> list[tuple[mx.array, mx.array]]:
    return list(iterate_batches(data, size, limit, seed=seed))


def mixed(count: int) -> list[dict]:
    """Rows of very different lengths, in no order."""
    return [row(i, ("user", "Count"), ("assistant", "one " * (1 + 37 * i % 31))) for i in range(count)]


def test_rows_of_one_length_go_together(tmp_path: Path, model: Path) -> None:
    rows = mixed(32)
    _, data = theirs(model, rows)
    padded = sum(batch.size for batch, _ in batches(data, 4))
    real = sum(len(data[i][0]) for i in range(len(rows)))
    wasted = 1 - real / padded
    command = train_command(tmp_path, model, rows, epochs=1, dataset__batch_size=4, dataset__packing=False)
    steps = of(train(command), "step")
    ours = sum(step["padding_share"] for step in steps) / len(steps)
    assert wasted > 0.3
    assert ours < wasted / 3


def test_no_padding_is_learned(tmp_path: Path, model: Path) -> None:
    rows = [row(0, ("user", "a"), ("assistant", "b")), row(1, ("user", "a"), ("assistant", "b c d e f"))]
    loaded, data = theirs(model, rows)
    targets = sum(len(data[i][0]) - 1 for i in range(2))
    (batch,) = batches(data, 2)
    assert default_loss(loaded, *batch)[1].item() == targets + 2  # one of padding in each row
    (prepared,) = of(train(train_command(tmp_path, model, rows, dataset__loss_on="all", epochs=1)), "prepared")
    assert prepared["trained_tokens"] <= targets


def test_every_assistant_turn_is_learned(tmp_path: Path, model: Path) -> None:
    turns = [("user", "Hi"), ("assistant", "Good day to you"), ("user", "And?"), ("assistant", "Yes")]
    rows = [row(i, *turns) for i in range(2)]
    loaded, data = theirs(model, rows, mask_prompt=True)
    (batch,) = batches(data, 2)
    last_only = default_loss(loaded, *batch)[1].item()
    (prepared,) = of(train(train_command(tmp_path, model, rows, epochs=1)), "prepared")
    tokenizer = load(str(model))[1]
    answers = [len(tokenizer.encode(text + "<|im_end|>")) for text in ("Good day to you", "Yes")]
    assert prepared["trained_tokens"] == 2 * sum(answers)
    assert last_only < prepared["trained_tokens"]


def test_a_cut_row_still_ends(tmp_path: Path, model: Path) -> None:
    rows = [row(i, ("user", "Go"), ("assistant", "one two three " * 20)) for i in range(2)]
    _, data = theirs(model, rows)
    (batch,) = batches(data, 2, limit=32)
    end = load(str(model))[1].eos_token_id
    assert end not in batch[0][0, -1:].tolist()
    # Of what each does not see, ours still learns to end: taught on cut rows alone, it ends at the cut.
    command = train_command(tmp_path, model, rows, dataset__max_seq_length=32, epochs=60, learning_rate=2e-2)
    frames = train(command)
    assert of(frames, "prepared")[0]["samples_truncated"] == 2
    tuned, tokenizer = load(str(model), adapter_path=str(tmp_path / "out"))
    prompt = tokenizer.apply_chat_template(rows[0]["messages"][:1], add_generation_prompt=True)
    answer = tokenizer.encode("one two three " * 20)[: 31 - len(prompt)]
    assert tuned(mx.array([prompt + answer]))[0, -1].argmax().item() == end


def test_a_row_without_an_answer_in_reach_does_no_harm(tmp_path: Path, model: Path) -> None:
    rows = [row(0, ("user", "word " * 60), ("assistant", "b")), *questions(3)]
    loaded, data = theirs(model, rows[:1], mask_prompt=True)
    args = TrainingArgs(batch_size=1, iters=1, max_seq_length=32, adapter_file=str(tmp_path / "theirs.safetensors"))
    mlx_lm_train(loaded, optim.SGD(learning_rate=0.1), data, args=args)
    assert any(mx.isnan(w).any().item() for w in mx.load(str(tmp_path / "theirs.safetensors")).values())
    frames = train(train_command(tmp_path, model, rows, dataset__max_seq_length=32, epochs=1))
    assert of(frames, "prepared")[0]["samples_dropped"] == 1
    assert all(math.isfinite(step["loss"]) for step in of(frames, "step"))
    assert all(mx.isfinite(w).all().item() for w in mx.load(str(tmp_path / "out" / "adapters.safetensors")).values())


def test_no_row_is_left_out(tmp_path: Path, model: Path) -> None:
    rows = questions(7)
    _, data = theirs(model, rows)
    assert sum(len(batch) for batch, _ in batches(data, 4)) == 4
    with pytest.raises(ValueError, match="at least batch_size=8"):
        batches(data, 8)
    for size in (4, 8):
        command = train_command(tmp_path, model, rows, epochs=1, dataset__batch_size=size)
        assert of(train(command), "step")[-1]["processed_samples"] == 7


def test_accumulated_batches_weigh_by_tokens(tmp_path: Path, model: Path) -> None:
    rows = [row(0, ("user", "a"), ("assistant", "b")), row(1, ("user", "a"), ("assistant", "c d e f g " * 6))]

    def after_one_update(size: int, accumulation: int) -> np.ndarray:
        loaded, data = theirs(model, rows, mask_prompt=True)
        args = TrainingArgs(
            batch_size=size,
            iters=accumulation,
            steps_per_report=100,
            grad_accumulation_steps=accumulation,
            adapter_file=str(tmp_path / "theirs.safetensors"),
        )
        mlx_lm_train(loaded, optim.SGD(learning_rate=1.0), data, args=args)
        return np.concatenate([np.array(w).ravel() for _, w in tree_flatten(loaded.trainable_parameters())])

    assert np.abs(after_one_update(2, 1) - after_one_update(1, 2)).max() > 1e-3

    def ours(size: int, accumulation: int) -> dict:
        command = train_command(
            tmp_path,
            model,
            rows,
            epochs=1,
            dataset__batch_size=size,
            dataset__shuffle=False,
            gradient_accumulation_steps=accumulation,
        )
        return of(train(command), "step")[0]

    whole, halves = ours(2, 1), ours(1, 2)
    assert halves["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert halves["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-5)


def test_a_last_partial_accumulation_counts(tmp_path: Path, model: Path) -> None:
    rows = questions(3)
    loaded, data = theirs(model, rows)
    before = {name: np.array(w) for name, w in tree_flatten(loaded.trainable_parameters())}
    args = TrainingArgs(
        batch_size=1, iters=3, grad_accumulation_steps=4, adapter_file=str(tmp_path / "theirs.safetensors")
    )
    mlx_lm_train(loaded, optim.SGD(learning_rate=1.0), data, args=args)
    assert all((np.array(w) == before[name]).all() for name, w in tree_flatten(loaded.trainable_parameters()))
    command = train_command(
        tmp_path, model, rows, epochs=1, dataset__batch_size=1, gradient_accumulation_steps=4, warmup_ratio=0.0
    )
    (step,) = of(train(command), "step")
    assert step["processed_samples"] == 3
    saved = mx.load(str(tmp_path / "out" / "adapters.safetensors"))
    assert any(mx.abs(w).max().item() > 0 for name, w in saved.items() if name.endswith("lora_b"))


def test_logits_for_answers_alone(tmp_path: Path) -> None:
    """Peak memory: with 32,768 words, logits at each of 250 positions take 33 MB, at the answer's 3 0.4."""
    wide = make_tiny_model(tmp_path / "wide", vocab=32768)
    rows = [row(0, ("user", "word " * 80), ("assistant", "b"))]

    def peak(work) -> int:
        mx.clear_cache()
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        work()
        return mx.get_peak_memory() - before

    loaded, data = theirs(wide, rows, mask_prompt=True)
    (batch,) = batches(data, 1, limit=512)
    grad = nn.value_and_grad(loaded, lambda *b: default_loss(loaded, *b)[0])
    full = peak(lambda: mx.eval(grad(*batch)))
    ours = peak(lambda: train(train_command(tmp_path, wide, rows, epochs=1, dataset__max_seq_length=512)))
    assert ours < full / 2


def test_a_checkpoint_holds_all_that_goes_on(tmp_path: Path, model: Path) -> None:
    rows = questions(4)
    loaded, data = theirs(model, rows)
    args = TrainingArgs(batch_size=2, iters=2, steps_per_save=2, adapter_file=str(tmp_path / "a" / "x.safetensors"))
    (tmp_path / "a").mkdir()
    mlx_lm_train(loaded, optim.Adam(learning_rate=1e-3), data, args=args)
    assert {path.suffix for path in (tmp_path / "a").iterdir()} == {".safetensors"}
    assert all(name.endswith(("lora_a", "lora_b")) for name in mx.load(str(tmp_path / "a" / "x.safetensors")))
    whole = train(train_command(tmp_path, model, rows, max_steps=4))
    train(train_command(tmp_path, model, rows, max_steps=4, save_steps=2))
    shutil.rmtree(tmp_path / "out" / "checkpoints" / "step-00000004")
    again = train(train_command(tmp_path, model, rows, max_steps=4, resume=True))
    assert numbers(again) == numbers(whole)[2:]


def test_layer_classes_stay_as_they_are(tmp_path: Path, model: Path) -> None:
    loaded, _ = theirs(model, questions(2))
    layer = type(loaded.layers[0])
    genuine = layer.__call__
    try:
        grad_checkpoint(loaded.layers[0])
        assert type(load(str(model))[0].layers[0]).__call__ is not genuine  # also of models loaded later
    finally:
        layer.__call__ = genuine
    train(train_command(tmp_path, model, questions(2), epochs=1, memory_level=20))
    assert layer.__call__ is genuine


def test_lora_keeps_half_precision(model: Path) -> None:
    from mlx_engine.protocol import LoraSpec
    from mlx_engine.training.lora import apply_lora

    def widest(loaded: nn.Module) -> set[mx.Dtype]:
        """Types that the products of a LoRA layer are computed in."""
        seen: set[mx.Dtype] = set()
        module = loaded.layers[0].self_attn.q_proj
        genuine = mx.array.__matmul__

        def spy(a: mx.array, b: mx.array) -> mx.array:
            result = genuine(a, b)
            seen.add(result.dtype)
            return result

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mx.array, "__matmul__", spy)
            module(mx.zeros((1, 3, 64), mx.bfloat16))
        return seen

    half, _ = load(str(model))
    half.set_dtype(mx.bfloat16)
    half.freeze()
    linear_to_lora_layers(half, 2, LORA)
    assert mx.float32 in widest(half)
    ours, _ = load(str(model))
    ours.set_dtype(mx.bfloat16)
    apply_lora(ours, LoraSpec(rank=4, alpha=8.0, dropout=0.0, target_modules=["q_proj"]), 1)
    assert widest(ours) == {mx.bfloat16}


def test_defaults_mean_what_peft_means(tmp_path: Path, model: Path) -> None:
    assert CONFIG_DEFAULTS["lora_parameters"]["scale"] == 20.0
    assert CONFIG_DEFAULTS["num_layers"] == 16
    train(train_command(tmp_path, model, questions(2), epochs=1, lora__rank=16, lora__alpha=32.0))
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["lora_parameters"]["scale"] == 2.0
    assert config["num_layers"] == 2


def test_evaluation_leaves_the_order_alone(tmp_path: Path, model: Path) -> None:
    rows = questions(16)
    _, data = theirs(model, rows)

    def order(evaluate: bool) -> list[list[int]]:
        stream = iterate_batches(data, 2, 128, loop=True, seed=3)
        seen = []
        for _ in range(20):
            seen.append(next(stream)[0].flatten().tolist())
            if evaluate:
                list(iterate_batches(data, 2, 128))
        return seen

    assert order(False) != order(True)
    held_out = tmp_path / "held-out.jsonl"
    held_out.write_text("".join(json.dumps(r) + "\n" for r in questions(5)))
    plain = train(train_command(tmp_path, model, rows, epochs=3))
    evaluated = train(
        train_command(tmp_path, model, rows, epochs=3, dataset__validation_path=str(held_out), eval_steps=1)
    )
    assert len(of(evaluated, "eval")) > len(of(plain, "step")) // 2
    assert numbers(evaluated) == numbers(plain)


def test_full_fine_tuning_of_packed_weights_is_refused(tmp_path: Path) -> None:
    packed = make_tiny_model(tmp_path / "packed", quantized=True)
    loaded, data = theirs(packed, questions(2))
    for layer in loaded.layers:
        layer.unfreeze()  # what fine_tune_type "full" does
    args = TrainingArgs(batch_size=1, iters=1, adapter_file=str(tmp_path / "theirs.safetensors"))
    with pytest.raises(RuntimeError, match="no gradient wrt the quantized weights"):  # and nothing on what to do
        mlx_lm_train(loaded, optim.SGD(learning_rate=0.1), data, args=args)
    with pytest.raises(EngineError, match="packed weights cannot be trained"):
        train(train_command(tmp_path, packed, questions(2), method="full", lora=None))
