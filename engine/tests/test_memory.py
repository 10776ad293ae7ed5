from pathlib import Path

import pytest

from mlx_engine import memory

GIB = 1 << 30


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.fixture
def linux(tmp_path, monkeypatch):
    """A machine with 8 GiB available."""
    monkeypatch.setattr(memory, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "cgroup")
    write(tmp_path / "proc", meminfo=f"MemTotal:       99 kB\nMemAvailable:   {8 * GIB // 1024} kB\n")
    write(tmp_path / "proc/self", cgroup="0::/a/b\n")
    return tmp_path


def group(folder: Path, limit: str, current: int, inactive: int = 0) -> None:
    write(folder, memory__max=limit, memory__current=str(current), memory__stat=f"anon 5\ninactive_file {inactive}\n")


def test_the_tightest_of_machine_and_containers_counts_without_file_caches(linux):
    assert memory.available_bytes() == 8 * GIB
    group(linux / "cgroup/a/b", "max\n", GIB)
    assert memory.available_bytes() == 8 * GIB
    group(linux / "cgroup/a", f"{4 * GIB}\n", 3 * GIB, inactive=GIB)
    assert memory.available_bytes() == 2 * GIB
    group(linux / "cgroup", f"{GIB}", 2 * GIB)
    assert memory.available_bytes() == 0


def test_version_1_of_control_groups(linux):
    write(linux / "proc/self", cgroup="5:cpu:/\n4:memory:/box\n0::/\n")
    write(
        linux / "cgroup/memory",
        memory__limit_in_bytes=str(3 * GIB),
        memory__usage_in_bytes=str(2 * GIB),
        memory__stat=f"inactive_file 1\ntotal_inactive_file {GIB}\n",
    )
    assert memory.available_bytes() == 2 * GIB
    write(
        linux / "cgroup/memory/box",
        memory__limit_in_bytes="9223372036854771712",
        memory__usage_in_bytes="0",
        memory__stat="",
    )
    assert memory.available_bytes() == 2 * GIB


def test_elsewhere_it_is_what_the_device_has_less_what_is_held(linux):
    (linux / "proc/meminfo").unlink()
    assert 0 < memory.available_bytes() <= memory.memory_bytes()


def test_this_machine_tells():
    assert 0 < memory.available_bytes() <= memory.memory_bytes()
