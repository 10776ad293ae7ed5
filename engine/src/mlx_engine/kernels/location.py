"""Where the built extension is, and for which sources, MLX, Python and processor it was built."""

from __future__ import annotations

import hashlib
import platform
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

MODULE = "_kernels"
SOURCES = Path(__file__).parents[3] / "kernels"  # engine/kernels
# A line that says why there is no extension, left by the build for whoever would load it.
REASON = "reason.txt"


def cache() -> Path:
    """In the environment of this Python, whose MLX the extension is linked to: it goes when that goes."""
    return Path(sys.prefix, "share", "mlx-engine-kernels")


def build_folder() -> Path:
    """Holds the extension for exactly this process, once it has been built."""
    name = f"mlx-{version('mlx')}-{sys.implementation.cache_tag}-{platform.machine()}-{fingerprint()}"
    return cache() / name


def extension(folder: Path) -> Path:
    return folder / f"{MODULE}{sysconfig.get_config_var('EXT_SUFFIX')}"


def fingerprint() -> str:
    """Of all that decides what is built: sources, recipe, pinned tools."""
    files = [*SOURCES.glob("src/**/*"), SOURCES / "CMakeLists.txt", SOURCES / "nanobind.lock"]
    digest = hashlib.sha256()
    for path in sorted(path for path in files if path.is_file()):
        digest.update(path.relative_to(SOURCES).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def unsupported() -> str | None:
    """Why this machine's MLX can't have kernels, or None."""
    if sys.platform != "linux":
        return "the fused kernels are for Linux CPUs"
    try:
        version("mlx-cpu")
    except PackageNotFoundError:
        return "the fused kernels are for MLX's CPU back end"
    return None
