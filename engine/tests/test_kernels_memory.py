"""The kernels' maths under the address and undefined-behaviour sanitizers, and what the linker makes of it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from built_kernels import SOURCES

COMPILER = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
CROSS, EMULATOR = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64")
__test__ = COMPILER is not None
WIDE = {
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
}
SETS = {"baseline": [], **(WIDE if platform.machine() == "x86_64" else {})}
CORE = ["simd/simd", "core/attention_forward", "core/attention_backward", "core/cross_entropy", "core/packed_linear"]


def compile_all(
    folder: Path, *options: str, compiler: str | None = COMPILER, sets: dict[str, list[str]] = SETS
) -> list[Path]:
    """Object files of the maths and of each set of loops, and the test program's."""
    units = [(SOURCES / "src" / f"{name}.cpp", Path(name).name, ["-DKERNELS_X86"] * (len(sets) > 1)) for name in CORE]
    units += [
        (SOURCES / "src/simd/simd_loops.cpp", f"loops_{name}", [f"-DKERNELS_SIMD={name}", *flags])
        for name, flags in sets.items()
    ]
    units.append((SOURCES / "test/core_test.cpp", "core_test", []))
    common = [compiler, "-std=c++20", "-fopenmp", "-fno-math-errno", "-ffp-contract=fast", "-I", SOURCES / "src"]
    objects = []
    for source, name, own in units:
        objects.append(folder / f"{name}.o")
        subprocess.run([*common, *options, *own, "-c", source, "-o", objects[-1]], check=True)
    return objects


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("core")


def test_sanitizers_find_nothing_and_the_numbers_are_right(folder):
    sanitizers = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    objects = compile_all(folder, *sanitizers)
    subprocess.run([COMPILER, *sanitizers, "-fopenmp", *objects, "-o", folder / "core_test"], check=True)
    # The OpenMP library keeps its threads' memory to the end.
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "OMP_NUM_THREADS": "2"}
    result = subprocess.run([folder / "core_test"], env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "0 disagreements\n", "")


@pytest.mark.skipif(not (CROSS and EMULATOR), reason="Debian, Ubuntu: apt install g++-aarch64-linux-gnu qemu-user")
def test_the_numbers_are_right_on_aarch64(tmp_path):
    """Emulated."""
    objects = compile_all(tmp_path, "-O1", "-Werror", "-Wall", compiler=CROSS, sets={"baseline": []})
    subprocess.run([CROSS, "-fopenmp", "-static", *objects, "-o", tmp_path / "core_test"], check=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    result = subprocess.run([EMULATOR, tmp_path / "core_test"], env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "0 disagreements\n", "")


def test_the_loops_share_no_functions_between_instruction_sets(folder):
    """A function that a linker merges from several objects could come from the one for AVX-512, for all processors."""
    objects = [path for path in compile_all(folder, "-O0") if path.name.startswith("loops_")]
    assert len(objects) == len(SETS)
    for path in objects:
        symbols = subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout
        # Weak and unique ones are merged; of the others only the table of loops may be seen from outside.
        shared = [line for line in symbols.splitlines() if line.split()[-2] in "WVuT"]
        assert shared == []
