"""Proves that a result is alive: loads it as generation does, and looks whether it differs from its base and has the
loss that training had on the same rows.

First `probe` with the trainer's model, then `verify` once that is gone, so that never two models are in memory.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models.cache import make_prompt_cache

from mlx_engine.data.batches import collate
from mlx_engine.data.tokenize import Dataset, Example
from mlx_engine.memory import available_bytes
from mlx_engine.models import folder, record
from mlx_engine.models.bases import Bases
from mlx_engine.models.load import LoadedModel
from mlx_engine.models.record import ServingVerified
from mlx_engine.platform import Platform
from mlx_engine.protocol import EngineError, Train
from mlx_engine.training.loss import Loss, arrays

_ROWS = 8
_ROW_TOKENS = 256  # a longer row is cut there, or after the beginning of its answer, on both sides of the comparison
_ANSWER_TOKENS = 32
_COMPARED = 32  # positions whose logits are compared with the base's
_CHUNK_TOKENS = 256  # at a time, as generation takes in a prompt
_CHUNK_BYTES = 64 << 20  # of float32 logits

# Both ways compute the same of the same weights, in other shapes and orders. How far apart their losses may be,
# relative to the loss or to 1; and how far from the base's the logits must be, relative to the largest. Float32 keeps
# 24 bits: the losses differed by 4e-7, and by 4e-5 where MLX sums over a vocabulary on a CPU, one number after another;
# float16 keeps 11 bits and bfloat16 8, of which a deep model loses some.
_LOSS_TOLERANCE = {mx.float32: 1e-3, mx.float16: 1e-2, mx.bfloat16: 4e-2}
_LOGIT_NOISE = {mx.float32: 1e-5, mx.float16: 2e-3, mx.bfloat16: 1.6e-2}

_Check = Callable[[], None]


@dataclass(frozen=True)
class Probe:
    """Some rows, and the trainer's own loss on them."""

    rows: list[Example]
    loss: float  # mean over their supervised tokens


def choose(data: Dataset) -> list[Example]:
    """A few rows from all over the data, the shortest first, none of them long."""
    there = len(data.examples)
    count = min(_ROWS, there)
    rows = [_cut(data.examples[i * there // count]) for i in range(count)]
    return sorted(rows, key=lambda row: len(row.tokens))


def probe(loaded: LoadedModel, rows: Sequence[Example], seconds: float, check: _Check) -> Probe:
    """The first of `rows`, and as many more as `seconds` have room for. `check` is called before each and may raise."""
    loss = Loss(loaded.model)
    pad = loaded.tokenizer.pad_token_id or 0
    loaded.model.eval()
    started = time.monotonic()
    seen: list[Example] = []
    total = 0.0
    for row in rows:
        if seen and time.monotonic() - started > seconds:
            break
        check()
        total += loss.evaluate(*arrays(collate([row], pad)))[0].sum().item()
        seen.append(row)
    return Probe(seen, total / sum(row.trained for row in seen))


def verify(command: Train, platform: Platform, output: Path, probed: Probe, check: _Check) -> ServingVerified:
    """Loads the result in `output` through the code that serves it. Raises what that raises, and what `check` does."""
    full = command.method == "full"
    bases = Bases(platform, lambda *_: None)
    path = str(output) if full else command.model_path
    needed, there = bases.needed_bytes(path, folder.check(Path(path))), available_bytes()
    if needed > there:
        raise EngineError("out_of_memory", f"it takes about {needed / 1e9:.1f} GB, and {there / 1e9:.1f} are available")
    served = bases.serve(path, None if full else str(output))
    tuned = _look(served.loaded.model, probed.rows, check)
    if full:
        del served
        bases = Bases(platform, lambda *_: None)  # lets the result go before its base comes
    base = bases.get(command.model_path, record.read(output).base_quantize_bits)
    base.adapters.use(None)
    plain = _look(base.loaded.model, probed.rows, check, logits_only=True)
    difference = float(np.abs(tuned.logits - plain.logits).max())
    noise = _LOGIT_NOISE[tuned.dtype] * float(np.abs(plain.logits).max())
    problem = _problem(difference, noise, tuned.loss, probed.loss, _LOSS_TOLERANCE[tuned.dtype])
    alive = (
        f"has the loss that training had ({tuned.loss:.4g}), and its logits differ from the base's by up to "
        f"{difference:.3g}"
    )
    return ServingVerified(
        ok=problem is None,
        message=f"Loaded as for generation, the result {problem or alive}",
        logit_difference=_finite(difference),
        serving_loss=_finite(tuned.loss),
        trainer_loss=_finite(probed.loss),
        rows=len(probed.rows),
        trained_tokens=sum(row.trained for row in probed.rows),
    )


@contextmanager
def attempt(marker: Path) -> Iterator[None]:
    """Around the above: on a CPU a lack of memory ends the process, which would then be started again and again.
    EngineError when `marker` is there, because an earlier attempt did not come to its end."""
    if marker.exists():
        marker.unlink()
        raise EngineError(
            "out_of_memory", "an earlier attempt ended in the middle of it: for want of memory, or with the server"
        )
    marker.touch()
    try:
        yield
    finally:
        marker.unlink(missing_ok=True)


def unverified(why: str) -> ServingVerified:
    """Of a result that could not be looked at."""
    return ServingVerified(ok=False, message=f"The result could not be loaded as for generation: {why}")


def _problem(difference: float, noise: float, serving: float, trainer: float, tolerance: float) -> str | None:
    if not all(map(math.isfinite, (difference, serving, trainer))):
        return "has a loss or logits that are not finite"
    if difference <= noise:
        return (
            "changes nothing: its logits are the base's. It takes more steps or a higher learning_rate, or it was not "
            "this base that it was trained on"
        )
    if abs(serving - trainer) > tolerance * max(1.0, trainer):
        return (
            f"has a loss of {serving:.4g} on rows on which training had {trainer:.4g}, so it will not answer as trained"
        )
    return None


@dataclass(frozen=True)
class _Seen:
    loss: float  # mean over the supervised tokens
    logits: np.ndarray  # (up to _COMPARED, V) float32, at the first supervised positions
    dtype: mx.Dtype  # in which they were computed


def _look(model: nn.Module, rows: Sequence[Example], check: _Check, *, logits_only: bool = False) -> _Seen:
    """The rows as generation takes in a prompt: in chunks, over a cache."""
    total, trained = 0.0, 0
    kept: list[np.ndarray] = []
    for row in rows:
        cache = make_prompt_cache(model)
        inputs = mx.array(row.tokens[:-1])
        positions = np.flatnonzero(row.supervised) - 1
        start, step = 0, 16
        while start < inputs.size:
            check()
            logits = model(inputs[None, start : start + step], cache=cache)[0]
            inside = positions[(positions >= start) & (positions < start + step)]
            if len(inside):
                picked = np.array(logits[mx.array(inside - start)].astype(mx.float32))
                total += _cross_entropy(picked, row.tokens[inside + 1])
                trained += len(inside)
                kept.append(picked[: _COMPARED - sum(len(part) for part in kept)].copy())
            mx.eval([layer.state for layer in cache])
            start += step
            step = max(16, min(_CHUNK_TOKENS, _CHUNK_BYTES // (4 * logits.shape[-1])))
        if logits_only and sum(len(part) for part in kept) >= _COMPARED:
            break
    return _Seen(total / trained, np.concatenate(kept), logits.dtype)


def _cross_entropy(logits: np.ndarray, targets: np.ndarray) -> float:
    """logits (R, V), targets (R,) → the sum of -log softmax(logits)[target], summed in float64."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    totals = np.exp(shifted).sum(axis=-1, dtype=np.float64)
    return float((np.log(totals) - shifted[np.arange(len(targets)), targets]).sum())


def _cut(row: Example) -> Example:
    end = max(_ROW_TOKENS, int(row.supervised.argmax()) + _ANSWER_TOKENS)
    return Example(row.sample, row.tokens[:end].copy(), row.supervised[:end].copy())


def _finite(value: float) -> float | None:
    """To five digits: from the sixth on both ways differ, and on AMD's processors each of them from run to run. What is
    kept with a result is to be the same whenever the result is."""
    return float(f"{value:.5g}") if math.isfinite(value) else None
