"""The kernels as set-up builds them: without a compiler there are none, and the tests of their numbers don't exist."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

from mlx_engine import kernels

SOURCES = Path(__file__).parents[1] / "kernels"


@cache
def builder() -> ModuleType:
    """engine/kernels/build.py"""
    spec = importlib.util.spec_from_file_location("build_kernels", SOURCES / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def built() -> tuple[str, kernels.Kernels]:
    """The line of the build, and what the engine makes of it."""
    return builder().main([]), kernels.load()
