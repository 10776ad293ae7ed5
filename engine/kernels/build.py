"""Builds the kernels for the Python that runs this, unless that has been done: `python engine/kernels/build.py`.

Prints one line about what happened and always exits with 0: without kernels the engine computes with stock MLX. Needs a
C++20 compiler and Python's headers; cmake and ninja come from PyPI where they are not on PATH. Takes half a minute on
two cores, then nothing until the sources, MLX or Python change. `--force` builds anew.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent
sys.path.insert(0, str(SOURCES.parent / "src"))

from mlx_engine.kernels import location  # noqa: E402

_CMAKE_AT_LEAST = (3, 20)
_KEPT = 3  # older builds, 1 MB each


class NotBuilt(Exception):
    """Why not, in one line."""


def main(arguments: list[str]) -> str:
    """Does what is missing. Returns the line."""
    if why := location.unsupported():
        return f"Kernels: not built: {why}"
    folder = location.build_folder()
    if location.extension(folder).exists() and "--force" not in arguments:
        return f"Kernels: {_tried()}"
    if (folder / location.REASON).exists() and "--force" not in arguments:
        return f"Kernels: {(folder / location.REASON).read_text().strip()}"
    try:
        build(folder)
    except (NotBuilt, OSError) as error:
        _explain(f"the fused kernels are not built: {error}")
        return f"Kernels: not built: {error}. Training on this machine's CPU is slower without them."
    return f"Kernels: built. {_tried()}"


def build(folder: Path, *, jobs: int | None = None) -> None:
    """Makes the extension in `folder`, all at once at the end. NotBuilt when it can't be made."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _check_compiler()
    # Beside its place, so that it can be moved there in one step.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".build-") as temporary:
        work = Path(temporary)
        environment = _install_tools(work / "tools")
        cmake, ninja = (shutil.which(name, path=environment["PATH"]) for name in ("cmake", "ninja"))
        configure = [cmake, "-S", SOURCES, "-B", work / "build", "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
        _run([*configure, f"-DPython_EXECUTABLE={sys.executable}"], environment, "cmake")
        _run([cmake, "--build", work / "build", *(["-j", str(jobs)] if jobs else [])], environment, "the compiler")
        _keep(location.extension(work / "build"), folder)


def _check_compiler() -> None:
    """Before anything is installed for its sake."""
    named = os.environ.get("CXX")
    compiler = next(filter(None, map(shutil.which, [named] if named else ["c++", "g++", "clang++"])), None)
    if compiler is None:
        raise NotBuilt(f"no C++ compiler ({named or 'Debian, Ubuntu: apt install g++'})")
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").exists():
        raise NotBuilt("Python's headers are missing (Debian, Ubuntu: apt install python3-dev)")
    modern = "#include <bit>\nstatic_assert(std::has_single_bit(8u));\n"
    _run([compiler, "-std=c++20", "-fsyntax-only", "-x", "c++", "-"], dict(os.environ), "the compiler", modern)


def _install_tools(folder: Path) -> dict[str, str]:
    """nanobind, and cmake and ninja if need be, in a folder of their own. Returns the environment that finds them."""
    locks = [SOURCES / "nanobind.lock"]
    if not _new_cmake() or not shutil.which("ninja"):
        locks.append(SOURCES / "tools.lock")
    requirements = [word for lock in locks for word in ("-r", str(lock))]
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    installer = [uv, "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
    _run([*installer, "--quiet", "--require-hashes", "--target", folder, *requirements], dict(os.environ), "PyPI")
    path = os.pathsep.join([str(folder / "bin"), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PYTHONPATH": str(folder), "PATH": path}


def _new_cmake() -> bool:
    if not shutil.which("cmake"):
        return False
    told = subprocess.run(["cmake", "--version"], capture_output=True, text=True).stdout
    found = re.search(r"(\d+)\.(\d+)", told)
    return found is not None and tuple(map(int, found.groups())) >= _CMAKE_AT_LEAST


def _run(command: list[str | Path | None], environment: dict[str, str], who: str, typed: str = "") -> None:
    words, both = [str(word) for word in command], {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    result = subprocess.run(words, env=environment, input=typed, text=True, **both)
    if result.returncode == 0:
        return
    log = location.cache() / "build.log"
    log.write_text(f"{' '.join(words)}\n\n{result.stdout}")
    # CMake puts its words on the line after "CMake Error at …:".
    told = re.search(r"^.*\berror\b.*(?:(?<=:)\s*.+)?$", result.stdout, re.IGNORECASE | re.MULTILINE)
    first = " ".join(told[0].split())[:200] if told else f"exit status {result.returncode}"
    raise NotBuilt(f"{who} failed: {first} (all of it: {log})")


def _keep(built: Path, folder: Path) -> None:
    """Moves the extension into its folder, and the oldest builds for other sources or versions away: several checkouts
    may share an environment, and none is to take another's kernels away while that computes with them."""
    others = sorted(folder.parent.glob("mlx-*"), key=lambda path: path.stat().st_mtime)
    for old in others[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    (folder.parent / location.REASON).unlink(missing_ok=True)
    folder.mkdir(exist_ok=True)
    os.replace(built, location.extension(folder))


def _explain(reason: str) -> None:
    try:
        location.cache().mkdir(parents=True, exist_ok=True)
        (location.cache() / location.REASON).write_text(reason + "\n")
    except OSError:
        pass  # an environment that can't be written to: the line that is printed must do


def _tried() -> str:
    """The engine's own line, from a process that may crash."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCES.parent / "src")}
    command = [sys.executable, "-m", "mlx_engine.kernels"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.returncode == 0:
        return result.stdout.strip()
    reason = f"the fused kernels crash on this machine (exit status {result.returncode})"
    folder = location.build_folder()
    location.extension(folder).unlink(missing_ok=True)
    (folder / location.REASON).write_text(reason + "\n")
    return f"{reason} and are not used"


if __name__ == "__main__":
    print(main(sys.argv[1:]))
