"""Which BLAS the CPU back end of MLX computes with on Linux.

The mlx-cpu wheel links the reference BLAS: 4.5 GFLOP/s on two cores. With PyPI's `mkl` loaded into the global
symbol scope before `mlx.core`, the same wheel measures 230-410 on the same cores. Nothing else changes.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CBWR_STRICT, _CBWR_ALL = 0x10000, -1  # MKL_CBWR_… of mkl_types.h
_ROW_MAJOR, _AS_IS, _TRANSPOSED = 101, 111, 112  # of mkl_cblas.h
_SIDE = 64

_description: str | None = None
_mkl: ctypes.CDLL | None = None


def preload() -> str:
    """Loads MKL on x86 Linux, once. Returns the library in use with the reason, e.g. 'MKL 2026.2 (preloaded)'."""
    global _description
    if _description is None:
        _description = _preload(Path(sys.prefix, "lib"))
    return _description


def same_rows() -> bool:
    """From now on, a row of a matrix product has the same bits whatever the other rows are and however many: MKL's
    strict conditional numerical reproducibility. Products of one row take twice as long for it (SmolLM2-135M's: 42 ms
    for 21), those of eight or more nothing. False with another BLAS, and on CPUs where MKL doesn't keep to it (an AMD
    EPYC, for one to three rows); to be called before anything is multiplied."""
    if _mkl is None:
        return False
    strict = _mkl.MKL_CBWR_Get_Auto_Branch() | _CBWR_STRICT
    if _mkl.MKL_CBWR_Get(_CBWR_ALL) != strict and _mkl.MKL_CBWR_Set(strict) != 0:
        return False
    whole = _product(64)
    return all(_product(rows) == whole[: 4 * _SIDE * rows] for rows in (1, 2, 3, 5, 16))


def _product(rows: int) -> bytes:
    """The first rows of a fixed 64 x 64 matrix times another, by MKL."""
    count = _SIDE * _SIDE
    left, right, out = ((ctypes.c_float * count)() for _ in range(3))
    for i in range(count):
        left[i], right[i] = (i * 7919 % 1009) / 1009 - 0.5, (i * 104729 % 997) / 997 - 0.5
    size, one, zero = ctypes.c_int(_SIDE), ctypes.c_float(1), ctypes.c_float(0)
    _mkl.cblas_sgemm(_ROW_MAJOR, _AS_IS, _TRANSPOSED, rows, size, size, one, left, size, right, size, zero, out, size)
    return bytes(out)[: 4 * _SIDE * rows]


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Matrix products use so many threads meanwhile, in the whole process: MLX multiplies on threads of its own, which
    MKL's setting for the calling thread does not reach. Nothing happens with another BLAS."""
    if _mkl is None:
        yield
        return
    before = _mkl.MKL_Get_Max_Threads()
    _mkl.MKL_Set_Num_Threads(count)
    try:
        yield
    finally:
        _mkl.MKL_Set_Num_Threads(before)


def _preload(folder: Path) -> str:
    if sys.platform != "linux":
        return "Accelerate" if sys.platform == "darwin" else "the BLAS that MLX was built with"
    if platform.machine() not in ("x86_64", "AMD64"):
        return f"reference BLAS: MKL is for x86 only, this machine is {platform.machine()}"
    if "mlx.core" in sys.modules:
        return "reference BLAS: mlx was imported before mlx_engine, too late for MKL"
    found = [sorted(folder.glob(name)) for name in ("libiomp5.so", "libmkl_rt.so*")]
    if not all(found):
        return "reference BLAS: mkl is not installed"
    # Reproducible sums from run to run; within noise of the default's speed (407 against 413 GFLOP/s).
    os.environ.setdefault("MKL_CBWR", "AUTO")
    try:
        libraries = [ctypes.CDLL(str(paths[-1]), mode=ctypes.RTLD_GLOBAL) for paths in found]
    except OSError as error:
        return f"reference BLAS: mkl does not load: {error}"
    global _mkl
    _mkl = libraries[-1]
    return f"MKL {_mkl_version(_mkl)} (preloaded)"


def _mkl_version(mkl: ctypes.CDLL) -> str:
    text = ctypes.create_string_buffer(200)
    mkl.MKL_Get_Version_String(text, len(text))
    words = text.value.decode(errors="replace").split()  # "… Library Version 2026.2-Product Build …"
    after = words.index("Version") + 1 if "Version" in words else len(words)
    return words[after].split("-")[0] if after < len(words) else ""
