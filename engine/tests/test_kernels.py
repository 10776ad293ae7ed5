"""Whether there are kernels, and what is said when there are none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from built_kernels import builder, built
from mlx_engine import kernels
from mlx_engine.kernels import loading, location
from mlx_engine.kernels.ops import NAMES

LINE, KERNELS = built()


def compilers() -> bool:
    try:
        builder()._check_compiler()
    except builder().NotBuilt:
        return False
    return location.unsupported() is None


def test_the_kernels_are_all_there_or_one_line_says_why_not():
    told = subprocess.run(
        [sys.executable, "-m", "mlx_engine.kernels"],
        env={**os.environ, "PYTHONPATH": str(Path(kernels.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told.rstrip("\n").count("\n") == 0
    if compilers():
        assert KERNELS.active == NAMES
        assert KERNELS.inactive == {}
        assert told == f"fused kernels ({KERNELS.ops.instruction_set}): {', '.join(NAMES)}\n"
        assert LINE.endswith(told.strip())
    else:
        assert KERNELS.ops is None
        assert set(KERNELS.inactive) == set(NAMES)
        assert told.startswith("stock MLX kernels: the fused kernels ")
        assert "not built: " in LINE


def test_without_a_compiler_the_build_says_so_and_so_does_the_engine(tmp_path, monkeypatch):
    if location.unsupported() is None:
        monkeypatch.setattr(sys, "prefix", str(tmp_path))
        monkeypatch.setenv("CXX", "/nowhere/c++")
        assert builder().main([]).startswith("Kernels: not built: no C++ compiler (/nowhere/c++).")
        found = loading.load_from(location.build_folder())
        assert found.ops is None
        assert found.line == "stock MLX kernels: the fused kernels are not built: no C++ compiler (/nowhere/c++)"


def test_a_compiler_that_fails_is_told_in_one_line_of_the_build_and_of_the_engine(tmp_path, monkeypatch):
    if not compilers():
        pytest.skip("no kernels are built here")
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\necho In file a.h: >&2\necho a.h:3: error: unknown architecture >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("CXX", str(compiler))
    log = location.cache() / "build.log"
    why = f"the compiler failed: a.h:3: error: unknown architecture (all of it: {log})"
    slower = "Training on this machine's CPU is slower without them."
    assert builder().main([]) == f"Kernels: not built: {why}. {slower}"
    assert "In file a.h:" in log.read_text()
    found = loading.load_from(location.build_folder())
    assert found.ops is None
    assert found.line == f"stock MLX kernels: the fused kernels are not built: {why}"


def test_nothing_there_and_something_else_there(tmp_path):
    assert loading.load_from(tmp_path).line == "stock MLX kernels: the fused kernels are not built: run the set-up"
    location.extension(tmp_path).write_bytes(b"no shared object")
    found = loading.load_from(tmp_path)
    assert found.ops is None
    assert found.line.startswith("stock MLX kernels: the fused kernels don't load: ")
    assert "\n" not in found.line


def test_a_change_of_the_sources_asks_for_a_new_build(tmp_path, monkeypatch):
    (tmp_path / "src").mkdir()
    for name in ("CMakeLists.txt", "nanobind.lock", "src/a.cpp"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(location, "SOURCES", tmp_path)
    before = location.build_folder()
    assert location.build_folder() == before
    (tmp_path / "src/a.cpp").write_text("changed")
    assert location.build_folder() != before
    assert location.build_folder().parent == before.parent
