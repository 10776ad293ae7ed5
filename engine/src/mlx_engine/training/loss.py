"""The loss: cross-entropy summed over the supervised positions, computed at those alone.

The head's product with the vocabulary is the largest of a small model's; mlx-lm does it for every position. Here the
trunk runs, the supervised rows are gathered, and only they meet the head: exact, as long as a model's logits are
head(trunk(x)), soft-capped where the model says so (Gemma 2), and nothing else. That is checked once, on real numbers;
a model with logits scaled in some other way (Cohere) goes through its own forward pass.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from mlx_engine import kernels
from mlx_engine.data.batches import Batch
from mlx_engine.models.quantized import known

# Positions are done so many at a time that their float32 logits take this much memory; at the peak it is about ten
# times as much, in every lane. Of 683 positions with a vocabulary of 49,152, on one thread: 1.15 CPU seconds and 540 MB
# at once, 1.18 and 185 in chunks of 16 MB, 1.4 and 94 of 8.
_CPU_LOGITS_BYTES = 16 << 20
_GPU_LOGITS_BYTES = 256 << 20


def cross_entropy_sum(logits: mx.array, targets: mx.array) -> mx.array:
    """logits (R, V), targets (R,) → scalar float32, the sum of -log softmax(logits)[target].

    Keeps the gradient instead of the logits: `exp`, which runs one element at a time on CPUs (23 ns each), is then
    needed once for a training step and not twice.
    """
    rows = mx.arange(targets.shape[0])

    @mx.custom_function
    def forward(logits: mx.array) -> tuple[mx.array, mx.array]:
        shifted = logits.astype(mx.float32)
        shifted = shifted - shifted.max(axis=-1, keepdims=True)
        exponentials = mx.exp(shifted)
        total = exponentials.sum(axis=-1, keepdims=True)
        nll = mx.log(total[:, 0]) - shifted[rows, targets]
        gradient = (exponentials / total).at[rows, targets].subtract(1.0)
        return nll.sum(), gradient

    @forward.vjp
    def backward(logits: mx.array, cotangents: list[mx.array], outputs: list[mx.array]) -> mx.array:
        return (cotangents[0] * outputs[1]).astype(logits.dtype)

    return forward(logits)[0]


class Loss:
    """Call it with a Batch's arrays; `responses_only` tells which way it goes."""

    def __init__(self, model: nn.Module, logits_bytes: int | None = None) -> None:
        self.model = model
        if logits_bytes is None:
            on_cpu = mx.default_device() == mx.Device(mx.cpu)
            logits_bytes = _CPU_LOGITS_BYTES if on_cpu else _GPU_LOGITS_BYTES
        vocabulary = model(mx.array([[0]])).shape[-1]
        self._rows_at_once = max(1, logits_bytes // (4 * vocabulary))
        self._parts = next((parts for parts in _candidates(model) if _same_logits(model, parts, vocabulary)), None)
        self._fused = self._parts is not None and _can_be_fused(self._parts.owner)

    @property
    def responses_only(self) -> bool:
        return self._parts is not None

    def twin(self) -> Loss:
        """The same with a model of its own over the same arrays, for another thread: building a gradient puts tracers
        in the place of parameters."""
        return copy.deepcopy(self, {id(array): array for _, array in tree_flatten(self.model.parameters())})

    def __call__(
        self, inputs: mx.array, positions: mx.array, targets: mx.array, caches: list[Any] | None = None
    ) -> mx.array:
        """inputs (B, T), positions (R,) into B·T, targets (R,) → summed loss, float32 scalar.

        `caches`, one a layer, are what the model takes its attention mask from: see packing.py.
        """
        if self._parts is None:
            return cross_entropy_sum(_rows(self.logits(inputs, caches), positions), targets)
        _, owner, head, soft_cap = self._parts
        hidden = _rows(self._trunk(inputs, caches), positions)
        if self._fused:
            return _fused(hidden, owner, targets, soft_cap, gradient=True)[0].sum()
        return _in_chunks(head, owner, hidden, targets, self._rows_at_once)

    def evaluate(
        self, inputs: mx.array, positions: mx.array, targets: mx.array, caches: list[Any] | None = None
    ) -> tuple[mx.array, mx.array]:
        """The same losses one by one, (R,) float32, and whether each target has the highest logit, (R,) bool."""
        if self._parts is None:
            return _losses_and_hits(_rows(self.logits(inputs, caches), positions), targets)
        _, owner, head, soft_cap = self._parts
        hidden = _rows(self._trunk(inputs, caches), positions)
        if self._fused:
            return _fused(hidden, owner, targets, soft_cap, gradient=False)
        parts: list[tuple[mx.array, mx.array]] = []
        for i in range(0, len(targets), self._rows_at_once):
            chunk = slice(i, i + self._rows_at_once)
            parts.append(_losses_and_hits(head(hidden[chunk]), targets[chunk]))
            mx.eval(parts[-1])
        losses, hits = zip(*parts, strict=True)
        return mx.concatenate(losses), mx.concatenate(hits)

    def logits(self, inputs: mx.array, caches: list[Any] | None = None) -> mx.array:
        """inputs (B, T) → (B, T, V), by the way that the loss goes."""
        if self._parts is None:
            return _with(self.model, caches)(inputs)
        return self._parts.head(self._trunk(inputs, caches))

    def _trunk(self, inputs: mx.array, caches: list[Any] | None) -> mx.array:
        return _with(self._parts.trunk, caches)(inputs)


def _losses_and_hits(logits: mx.array, targets: mx.array) -> tuple[mx.array, mx.array]:
    """logits (R, V), targets (R,) → -log softmax(logits)[target] and whether that is the highest, both (R,)."""
    shifted = logits.astype(mx.float32)
    shifted = shifted - shifted.max(axis=-1, keepdims=True)
    losses = mx.log(mx.exp(shifted).sum(axis=-1)) - shifted[mx.arange(targets.shape[0]), targets]
    return losses, logits.argmax(axis=-1) == targets


def _in_chunks(
    head: Callable[[mx.array], mx.array], owner: nn.Module, hidden: mx.array, targets: mx.array, rows: int
) -> mx.array:
    """cross_entropy_sum(head(hidden), targets), so many rows at a time.

    A chunk's gradients, for `hidden` and for the parameters of the head's `owner` if they are trained, are made as soon
    as its logits are there; so logits are neither kept nor computed again.
    """
    if owner.trainable_parameters():
        # A chunk has the gradient of the whole head to add, which is to take less than its logits.
        rows = max(rows, hidden.shape[-1])
    names, weights = tuple(zip(*tree_flatten(owner.trainable_parameters()), strict=True)) or ((), ())

    def loss(inputs: list[mx.array], targets: mx.array) -> mx.array:
        owner.update(tree_unflatten(list(zip(names, inputs[1:], strict=True))))
        return cross_entropy_sum(head(inputs[0]), targets)

    value_and_grad = mx.value_and_grad(loss)

    @mx.custom_function
    def forward(inputs: list[mx.array]) -> list[mx.array]:
        hidden, *weights = inputs
        total, parts, sums = mx.array(0.0), [], [mx.array(0.0)] * len(weights)
        for i in range(0, len(targets), rows):
            chunk = hidden[i : i + rows]
            if parts:  # not before the last chunk is done, or all logits would be in memory at a time
                chunk = mx.depends(chunk, [total, parts[-1], *sums])
            value, (part, *gradients) = value_and_grad([chunk, *weights], targets[i : i + rows])
            total = total + value
            parts.append(part)
            sums = [a + b for a, b in zip(sums, gradients, strict=True)]
        return [total, mx.concatenate(parts), *sums]

    @forward.vjp
    def backward(inputs: Any, cotangents: list[mx.array], outputs: list[mx.array]) -> list[mx.array]:
        return [(cotangents[0] * gradient).astype(gradient.dtype) for gradient in outputs[1:]]

    return forward([hidden, *weights])[0]


def _can_be_fused(head: nn.Module) -> bool:
    """Plain float32 weights, or packed ones, that are not trained: the kernel has a gradient for what meets them
    alone."""
    if "bias" not in head and known(head) is not None:
        return "packed_cross_entropy" in kernels.load()
    return (
        "linear_cross_entropy" in kernels.load()
        and type(head) in (nn.Linear, nn.Embedding)
        and head.weight.dtype == mx.float32
        and not head.trainable_parameters()
        and "bias" not in head
    )


def _fused(
    hidden: mx.array, head: nn.Module, targets: mx.array, soft_cap: float, *, gradient: bool
) -> tuple[mx.array, mx.array]:
    """(R,) losses, and whether the target has the highest logit."""
    ops, packed = kernels.load().ops, known(head)
    if packed is not None:
        return ops.packed_cross_entropy(hidden, packed, targets, soft_cap=soft_cap, gradient=gradient)
    return ops.linear_cross_entropy(hidden, head.weight, targets, soft_cap=soft_cap, gradient=gradient)


def _with(module: Callable[..., mx.array], caches: list[Any] | None) -> Callable[..., mx.array]:
    return module if caches is None else partial(module, cache=caches)


def _rows(outputs: mx.array, positions: mx.array) -> mx.array:
    """outputs (B, T, D), positions (R,) into B·T → (R, D)"""
    return outputs.reshape(-1, outputs.shape[-1])[positions]


def arrays(batch: Batch) -> tuple[mx.array, mx.array, mx.array]:
    return mx.array(batch.inputs), mx.array(batch.positions), mx.array(batch.targets)


class _Parts(NamedTuple):
    trunk: Callable[..., mx.array]
    owner: nn.Module  # of the head's weights
    head: Callable[[mx.array], mx.array]  # hidden (…, D) → logits (…, V), capped
    soft_cap: float = 0.0  # logits are c · tanh(logits / c); 0 for none


def _candidates(model: nn.Module) -> Iterator[_Parts]:
    """As mlx-lm's models name them. What a model says of a cap comes first: of small logits, capped ones can hardly be
    told from others, and training makes them larger."""
    for outer in (model, getattr(model, "language_model", None)):
        trunk = getattr(outer, "model", None)
        if not isinstance(trunk, nn.Module):
            continue
        heads = []
        head = getattr(outer, "lm_head", None)
        if isinstance(head, nn.Module):
            heads.append((head, head))
        embedding = getattr(trunk, "embed_tokens", None)
        if isinstance(embedding, nn.Module) and hasattr(embedding, "as_linear"):
            heads.append((embedding, embedding.as_linear))
        soft_cap = _soft_cap(outer)
        for owner, head in heads:
            if soft_cap:
                # A partial, which twin() copies with what it holds; a closure would keep this model's head.
                yield _Parts(trunk, owner, partial(_capped, head, soft_cap), soft_cap)
            yield _Parts(trunk, owner, head)


def _soft_cap(model: nn.Module) -> float:
    name = "final_logit_softcapping"
    value = getattr(model, name, None) or getattr(getattr(model, "args", None), name, None)
    return float(value) if isinstance(value, int | float) and value > 0 else 0.0


def _capped(head: Callable[[mx.array], mx.array], soft_cap: float, hidden: mx.array) -> mx.array:
    return mx.tanh(head(hidden) / soft_cap) * soft_cap


def _same_logits(model: nn.Module, parts: _Parts, vocabulary: int) -> bool:
    """Whether head(trunk(x)) is model(x) up to rounding, for 16 tokens spread over the vocabulary."""
    tokens = mx.linspace(0, vocabulary - 1, 16).astype(mx.int32)[None]
    training = model.training
    model.eval()
    expected = model(tokens)
    try:
        found = parts.head(parts.trunk(tokens))
    except (TypeError, ValueError, AttributeError):
        return False
    finally:
        model.train(training)
    if expected.shape != found.shape:
        return False
    # Both run the same kernels, so that differences are those of rounding at other shapes; soft-capping at 30 moves
    # a logit of 1 by 4e-4 already.
    tolerance = 1e-5 if expected.dtype == mx.float32 else 1e-2
    expected = expected.astype(mx.float32)
    error = mx.abs(expected - found.astype(mx.float32)).max()
    return bool((error <= tolerance * mx.abs(expected).max()).item())
