"""Adapters of one base side by side, so that requests for different ones are one batch: the base's product once, then
each row's own low-rank one, gathered from stacked matrices.

Each adapted linear layer has A (slots, in, r) and B (slots, r, out) with the scale in B, as models.low_rank settles
them. Slot 0 is the base alone, all zeros, and so is what a smaller rank, or a layer that an adapter leaves alone, has
too much.
DoRA's gain m / ‖W + s·BA‖ is stacked as well (1 elsewhere). Punica (arXiv:2310.18547) and S-LoRA (arXiv:2311.03285)
have the idea. What adapts embeddings or stacked experts can't be stacked: it is served by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mlx.core as mx
import mlx.nn as nn

from mlx_engine.kernels import Kernels
from mlx_engine.models.adapters import Adapter
from mlx_engine.models.low_rank import DoRALinear, LoRALinear

_FIRST_SLOTS = 8


def stackable(adapter: Adapter) -> bool:
    return all(isinstance(module, LoRALinear | DoRALinear) for _, module in adapter.modules)


class Route:
    """Which slot each row of what is being computed goes to: shared by all layers of a stack."""

    def __init__(self, kernels: Kernels) -> None:
        self.low_rank_rows = kernels.ops.low_rank_rows if "low_rank_rows" in kernels else None
        self.slot = 0  # of all rows, when `slots` is None
        self.slots: mx.array | None = None  # (rows,) uint32


class StackedLinear(nn.Module):
    def __init__(self, linear: nn.Module, route: Route) -> None:
        super().__init__()
        self.linear = linear
        self._route = route
        self._a: mx.array | None = None
        self._b: mx.array | None = None
        self._gain: mx.array | None = None

    def __call__(self, x: mx.array) -> mx.array:
        y = self.linear(x)
        slots, slot = self._route.slots, self._route.slot
        if slots is None and slot == 0:
            return y
        if slots is None:
            y = y + (x @ self._a[slot]) @ self._b[slot]
        elif self._route.low_rank_rows is not None and y.dtype == mx.float32:
            y = self._route.low_rank_rows(y, x, self._a, self._b, slots)
        else:
            y = y + mx.gather_mm(mx.gather_mm(x, self._a, rhs_indices=slots), self._b, rhs_indices=slots)
        if self._gain is None:
            return y
        gain = self._gain[slot] if slots is None else self._gain[slots][:, None]
        y = y * gain
        # The bias is in y already and isn't scaled.
        return y + (1 - gain) * self.linear.bias if "bias" in self.linear else y


class Stack:
    def __init__(self, base: Mapping[str, nn.Module], kernels: Kernels) -> None:
        self._base = base
        self._route = Route(kernels)
        self._slots: list[Adapter | None] = [None] * (1 + _FIRST_SLOTS)
        self._layers: dict[str, StackedLinear] = {}
        self._used: list[int] = [0] * len(self._slots)  # the call of `place` that last asked for it
        self._calls = 0
        self._rank = 0
        self.modules: list[tuple[str, nn.Module]] = []  # to be put in place of the base's

    def place(self, adapters: Sequence[Adapter | None]) -> list[int]:
        """A slot for each, which it keeps at least until the next call; what was asked for longest ago makes room."""
        wanted = list(dict.fromkeys(adapter for adapter in adapters if adapter is not None))
        missing = [adapter for adapter in wanted if adapter not in self._slots]
        free = [i for i, held in enumerate(self._slots) if i > 0 and held not in wanted]
        if missing:
            self._make(missing, free)
        slots = [0 if adapter is None else self._slots.index(adapter) for adapter in adapters]
        self._calls += 1
        for slot in slots:
            self._used[slot] = self._calls
        return slots

    def _make(self, missing: list[Adapter], free: list[int]) -> None:
        grow = len(free) < len(missing)
        if grow:
            extra = max(len(missing) - len(free), len(self._slots) - 1)
            free += range(len(self._slots), len(self._slots) + extra)
            self._slots += [None] * extra
            self._used += [0] * extra
        free.sort(key=lambda i: self._used[i])
        placed = dict(zip(free, missing, strict=False))
        for slot, adapter in placed.items():
            self._slots[slot] = adapter
        rank = max(_rank(adapter) for adapter in missing)
        fits = rank <= self._rank and all(name in self._layers for adapter in missing for name, _ in adapter.modules)
        if grow or not fits or any(_has_gain(adapter) and not self._has_gains() for adapter in missing):
            self._build()
        else:
            for slot, adapter in placed.items():
                self._write(slot, adapter)
        mx.eval([[a for a in (layer._a, layer._b, layer._gain) if a is not None] for layer in self._layers.values()])

    def _has_gains(self) -> bool:
        return any(layer._gain is not None for layer in self._layers.values())

    def _build(self) -> None:
        """All of it anew, for what the slots hold now."""
        held = [adapter for adapter in self._slots if adapter is not None]
        self._rank = max(_rank(adapter) for adapter in held)
        gains = any(_has_gain(adapter) for adapter in held)
        shapes = {name: module for adapter in held for name, module in adapter.modules}
        for name, like in shapes.items():
            if name not in self._layers:
                self._layers[name] = StackedLinear(self._base[name], self._route)
            layer, slots = self._layers[name], len(self._slots)
            dtype = like.lora_a.dtype
            layer._a = mx.zeros((slots, like.lora_a.shape[0], self._rank), dtype)
            layer._b = mx.zeros((slots, self._rank, like.lora_b.shape[1]), dtype)
            layer._gain = mx.ones((slots, like.lora_b.shape[1]), dtype) if gains else None
        for name in [name for name in self._layers if name not in shapes]:
            del self._layers[name]
        self.modules = list(self._layers.items())
        for slot, adapter in enumerate(self._slots):
            if adapter is not None:
                self._write(slot, adapter)

    def _write(self, slot: int, adapter: Adapter) -> None:
        parts = dict(adapter.modules)
        for name, layer in self._layers.items():
            part = parts.get(name)
            if part is None:
                layer._a[slot], layer._b[slot] = 0, 0
            else:
                spare = self._rank - part.lora_a.shape[1]
                layer._a[slot] = mx.pad(part.lora_a, [(0, 0), (0, spare)])
                layer._b[slot] = mx.pad(part.lora_b, [(0, spare), (0, 0)])
            if layer._gain is not None:
                layer._gain[slot] = part._gain if isinstance(part, DoRALinear) else 1

    # ---- before computing ----

    def route(self, slot: int) -> None:
        """What is computed next is all for one slot."""
        self._route.slot, self._route.slots = slot, None

    def route_rows(self, slots: Sequence[int]) -> None:
        """What is computed next has a row for each of these, of one token."""
        self._route.slot, self._route.slots = 0, mx.array(slots, mx.uint32) if any(slots) else None


def _rank(adapter: Adapter) -> int:
    return max(module.lora_a.shape[1] for _, module in adapter.modules)


def _has_gain(adapter: Adapter) -> bool:
    return any(isinstance(module, DoRALinear) for _, module in adapter.modules)
