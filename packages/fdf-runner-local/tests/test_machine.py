from __future__ import annotations

import pytest

from fdf_runner_local import machine


@pytest.fixture
def groups(tmp_path):
    """Return a function that lays out control groups, and says where they and the membership file are."""

    def lay(membership, files):
        for name, text in files.items():
            file = tmp_path / "groups" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        (tmp_path / "membership").write_text(membership)
        return tmp_path / "groups", tmp_path / "membership"

    return lay


def test_smallest_limit_on_the_way_up_counts(groups):
    where = groups(
        "0::/pod/container\n",
        {
            "pod/container/cpu.max": "max 100000",
            "pod/cpu.max": "250000 100000",
            "pod/container/memory.max": "4294967296",
            "pod/memory.max": "2147483648",
            "memory.max": "max",
        },
    )
    assert machine.cpu_quota(*where) == 2.5
    assert machine.memory_limit(*where) == 2 << 30


def test_version_1_groups_are_read_by_controller(groups):
    where = groups(
        "4:memory:/box\n3:cpu,cpuacct:/box\n1:name=systemd:/elsewhere\n",
        {
            "cpu/box/cpu.cfs_quota_us": "150000",
            "cpu/box/cpu.cfs_period_us": "100000",
            "cpu/cpu.cfs_quota_us": "-1",
            "cpu/cpu.cfs_period_us": "100000",
            "memory/box/memory.limit_in_bytes": "1073741824",
        },
    )
    assert machine.cpu_quota(*where) == 1.5
    assert machine.memory_limit(*where) == 1 << 30


def test_group_outside_the_container_falls_back_to_what_is_mounted(groups):
    where = groups("0::/../../host.slice\n", {"cpu.max": "100000 100000"})
    assert machine.cpu_quota(*where) == 1.0


@pytest.mark.parametrize("membership", ["", "0::/\n"])
def test_without_limits_there_is_none(groups, membership):
    where = groups(membership, {"cpu.max": "max 100000", "memory.max": "max"})
    assert machine.cpu_quota(*where) is None
    assert machine.memory_limit(*where) is None


def test_quota_below_one_cpu_still_gives_a_worker(monkeypatch):
    monkeypatch.setattr(machine, "cpu_quota", lambda: 0.2)
    assert machine.usable_cpus() == 1


def test_quota_is_rounded_up_within_the_allowed_cpus(monkeypatch):
    monkeypatch.setattr(machine, "allowed_cpus", lambda: 8)
    monkeypatch.setattr(machine, "cpu_quota", lambda: 2.5)
    assert machine.usable_cpus() == 3
    monkeypatch.setattr(machine, "cpu_quota", lambda: 64.0)
    assert machine.usable_cpus() == 8
