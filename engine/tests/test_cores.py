from __future__ import annotations

import math
import os
from pathlib import Path

from mlx_engine.cores import cgroup_quota, usable_cores


def test_as_many_as_the_process_is_bound_to() -> None:
    bound = os.sched_getaffinity(0)
    assert 1 <= usable_cores() <= len(bound)
    os.sched_setaffinity(0, {min(bound)})
    try:
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, bound)


def test_version_2_takes_the_lowest_limit_up_to_the_root(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    lines = ["0::/a/b"]
    assert cgroup_quota(lines, tmp_path) == math.inf
    (tmp_path / "a/b/cpu.max").write_text("max 100000\n")
    assert cgroup_quota(lines, tmp_path) == math.inf
    (tmp_path / "a/cpu.max").write_text("150000 100000\n")
    assert cgroup_quota(lines, tmp_path) == 1.5
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert cgroup_quota(lines, tmp_path) == 0.5


def test_a_path_of_the_host_leaves_the_container_s_own_limit(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("300000 100000\n")
    assert cgroup_quota(["0::/docker/0123"], tmp_path) == 3


def test_version_1(tmp_path: Path) -> None:
    folder = tmp_path / "cpu/jobs"
    folder.mkdir(parents=True)
    lines = ["11:memory:/jobs", "4:cpu,cpuacct:/jobs", "0::/"]
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    (folder / "cpu.cfs_quota_us").write_text("-1\n")
    assert cgroup_quota(lines, tmp_path) == math.inf
    (folder / "cpu.cfs_quota_us").write_text("250000\n")
    assert cgroup_quota(lines, tmp_path) == 2.5
