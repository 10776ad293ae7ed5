"""How much memory there is to be had at present, beside what other processes hold."""

from __future__ import annotations

import os
from pathlib import Path

import mlx.core as mx

from mlx_engine.platform import memory_bytes

_CGROUPS = Path("/sys/fs/cgroup")
_PROC = Path("/proc")
_UNLIMITED = 1 << 60  # version 1 writes a number near 2⁶³ for no limit


def available_bytes() -> int:
    """What this process may still take: of the GPU's memory, or of the machine's within the limits of its container.

    An estimate, since others take and free at the same time. Where neither Linux nor CUDA tells, it is what
    platform.memory_bytes says less what MLX holds.
    """
    if mx.default_device() == mx.Device(mx.gpu):
        info = mx.device_info(mx.default_device())
        left = memory_bytes() - mx.get_active_memory()
        return max(0, min(left, int(info.get("free_memory", left))))
    machine = _machine(_PROC / "meminfo")
    if machine is None:
        return max(0, memory_bytes() - mx.get_active_memory())
    return min([machine, *_containers(_PROC / "self/cgroup", _CGROUPS)])


def _machine(meminfo: Path) -> int | None:
    """MemAvailable of Linux: free, and what the kernel would give up of its caches."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _containers(membership: Path, root: Path) -> list[int]:
    """What each control group around this process leaves of its limit, file caches not counted. Version 2 and 1; from
    inside a container its own group is often mounted as the root."""
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        return []
    left = []
    for _, controllers, path in lines:
        if controllers == "":
            folder, names = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            folder = root / "memory"
        else:
            continue
        here = Path(os.path.normpath(f"{folder}/{path}"))
        for group in (here, *here.parents):
            if group.is_relative_to(folder):
                left += _group(group, *names)
    return left


def _group(folder: Path, limit: str, usage: str, cache: str) -> list[int]:
    try:
        most = int((folder / limit).read_text())  # "max": no limit
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        used = int((folder / usage).read_text()) - int(stat.get(cache, 0))
    except (OSError, ValueError):
        return []
    return [max(0, most - used)] if most < _UNLIMITED else []
