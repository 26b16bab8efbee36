"""How much memory is left, as the files of the system tell it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiltflow.engines.system_memory import available_memory

GB = 1 << 30


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def machine(tmp_path):
    """A machine with 8 GB available and no limits."""
    meminfo = f"MemTotal:  {16 * GB // 1024} kB\nMemAvailable:  {8 * GB // 1024} kB\n"
    return write(tmp_path, {"proc/meminfo": meminfo, "proc/self/cgroup": "0::/batch/job7\n"})


def test_without_limits_it_is_what_the_system_has(machine):
    write(machine, {"sys/fs/cgroup/batch/job7/memory.max": "max\n", "sys/fs/cgroup/batch/job7/memory.current": "5\n"})
    assert available_memory(machine) == 8 * GB


def test_the_tightest_group_on_the_way_to_the_root_counts(machine):
    groups = machine / "sys/fs/cgroup/batch"
    write(groups, {"memory.max": f"{3 * GB}\n", "memory.current": f"{GB}\n"})
    write(groups / "job7", {"memory.max": f"{6 * GB}\n", "memory.current": f"{GB}\n"})
    assert available_memory(machine) == 2 * GB


def test_files_that_nobody_uses_count_as_free(machine):
    job = {"memory.max": f"{3 * GB}\n", "memory.current": f"{2 * GB}\n", "memory.stat": f"anon 5\ninactive_file {GB}\nslab 1\n"}
    write(machine / "sys/fs/cgroup/batch/job7", job)
    assert available_memory(machine) == 2 * GB


def test_in_a_container_the_limit_stands_at_the_root(machine):
    write(machine / "sys/fs/cgroup", {"memory.max": f"{2 * GB}\n", "memory.current": f"{GB}\n"})
    assert available_memory(machine) == GB


def test_the_first_version_of_groups_is_understood(machine):
    write(machine, {"proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/job\n"})
    job = {"memory.limit_in_bytes": f"{4 * GB}\n", "memory.usage_in_bytes": f"{3 * GB}\n", "memory.stat": "total_inactive_file 0\n"}
    write(machine / "sys/fs/cgroup/memory/job", job)
    assert available_memory(machine) == GB


def test_more_in_use_than_allowed_leaves_nothing(machine):
    write(machine / "sys/fs/cgroup/batch/job7", {"memory.max": f"{GB}\n", "memory.current": f"{2 * GB}\n"})
    assert available_memory(machine) == 0


def test_a_system_that_does_not_tell_is_not_guessed_at(tmp_path):
    assert available_memory(tmp_path) is None
    assert available_memory(write(tmp_path, {"proc/meminfo": "MemTotal: 5 kB\n"})) is None


def test_this_machine_tells():
    if not Path("/proc/meminfo").exists():
        pytest.skip("needs Linux")
    left = available_memory()
    assert left is not None
    assert left > 0
