"""Finds the extension, tries it, and says which kernels are used and why others are not. Nothing here raises."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import mlx.core as mx

from mlx_engine.kernels import location, selftest
from mlx_engine.kernels.ops import NAMES, Ops

VARIABLE = "MLX_TRAINING_KERNELS"


@dataclass(frozen=True)
class Kernels:
    """What this process computes with. `ops` is None when there is nothing to use."""

    ops: Ops | None
    active: tuple[str, ...] = ()
    inactive: dict[str, str] = field(default_factory=dict)  # name → why it is not used

    def __contains__(self, name: str) -> bool:
        return name in self.active

    @property
    def line(self) -> str:
        """For people: 'fused kernels (avx512): attention, …' with what is missing, or why there are none."""
        reasons = set(self.inactive.values())
        if self.ops is None:
            return f"stock MLX kernels: {'; '.join(sorted(reasons))}"
        missing = "; ".join(f"not {name}: {why}" for name, why in self.inactive.items())
        return f"fused kernels ({self.ops.instruction_set}): {', '.join(self.active)}" + (missing and f"; {missing}")


@cache
def load() -> Kernels:
    """Of this process, once. Takes 0.1 to 0.3 s when there are kernels."""
    if mx.default_device() != mx.Device(mx.cpu):
        return _none("the fused kernels are for CPUs")
    if os.environ.get(VARIABLE) == "false":
        return _none(f"the fused kernels are turned off ({VARIABLE}=false)")
    if why := location.unsupported():
        return _none(why)
    return load_from(location.build_folder())


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Each kernel called meanwhile uses so many threads, whichever thread calls it."""
    ops = load().ops
    if ops is None:
        yield
        return
    before, ops.threads = ops.threads, count
    try:
        yield
    finally:
        ops.threads = before


def load_from(folder: Path) -> Kernels:
    """The extension in `folder`, tried and tested."""
    path = location.extension(folder)
    if not path.exists():
        return _none(_reason(folder))
    try:
        extension = _import(path)
        ops = Ops(extension)
        # With another nanobind than the wheel's it imports, and then every call with an array is a TypeError.
        mx.eval(ops.silu(mx.zeros((1,))))
    except TypeError:
        return _none(f"the fused kernels were not built for MLX {version('mlx')} (another nanobind)")
    except Exception as error:  # of foreign code: whatever it is, stock MLX is still there
        return _none(f"the fused kernels don't load: {str(error).splitlines()[0]}")
    failures = selftest.check(ops)
    active = tuple(name for name in NAMES if name not in failures)
    inactive = {name: f"fails its self-test ({why})" for name, why in failures.items()}
    return Kernels(ops if active else None, active, inactive)


def _none(why: str) -> Kernels:
    return Kernels(None, (), dict.fromkeys(NAMES, why))


def _reason(folder: Path) -> str:
    for candidate in (folder / location.REASON, location.cache() / location.REASON):
        if candidate.exists():
            return candidate.read_text().strip()
    return "the fused kernels are not built: run the set-up"


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(location.MODULE, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules.setdefault(location.MODULE, module)
    return module
