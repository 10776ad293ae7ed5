"""How many of the machine's cores this process may keep busy."""

from __future__ import annotations

import math
import os
import threading
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")

# For what is to come to the same bits: how many threads BLAS and the kernels use is the process's, and may decide the
# last of them. So of several runs in one process one computes at a time, on all cores.
TURN = threading.Lock()


def usable_cores() -> int:
    """Those it is bound to, or as many as its cgroups' CPU quota pays for (a started core counts)."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        memberships = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return bound
    return max(1, math.ceil(min(bound, cgroup_quota(memberships))))


def cgroup_quota(memberships: list[str], root: Path = _CGROUPS) -> float:
    """CPUs that the cgroups in /proc/self/cgroup's lines allow, infinite without a limit.

    Version 2 has `cpu.max` ("max 100000" or "50000 100000") in every folder up to the root, version 1 a quota of -1
    or microseconds: docs.kernel.org/admin-guide/cgroup-v2.html, …/scheduler/sched-bwc.html. In a container the path
    can be the host's, which doesn't exist there; its own limits are at the root then.
    """
    quota = math.inf
    for line in memberships:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, read = root, _version_2
        elif "cpu" in controllers.split(","):
            top, read = root / "cpu", _version_1
        else:
            continue
        folder = top / path.lstrip("/")
        for each in [folder, *folder.parents]:
            quota = min(quota, read(each))
            if each == top:
                break
    return quota


def _version_2(folder: Path) -> float:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return math.inf


def _version_1(folder: Path) -> float:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        return math.inf if quota <= 0 else quota / int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return math.inf
