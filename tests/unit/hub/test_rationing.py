"""Limits of processor time, in files like those of the kernel."""

from pathlib import Path

import pytest

from channels_trunk.hub.rationing import is_rationed

V2, V1 = "cpu.max", "cpu.cfs_quota_us"


def rationed(tmp_path: Path, groups: str, **files: str) -> bool:
    (tmp_path / "cgroup").write_text(groups)
    for name, text in files.items():
        file = tmp_path / "fs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return is_rationed(tmp_path / "cgroup", tmp_path / "fs")


@pytest.mark.parametrize(
    ("groups", "file", "text", "is_limit"),
    [
        ("0::/\n", V2, "max 100000\n", False),
        ("0::/\n", V2, "150000 100000\n", True),
        ("0::/\n", V2, "", False),
        # A service of systemd with CPUQuota=; its slice; a group beside its own.
        ("0::/system.slice/web.service\n", f"system.slice/web.service/{V2}", "50000 100000\n", True),
        ("0::/system.slice/web.service\n", f"system.slice/{V2}", "50000 100000\n", True),
        ("0::/system.slice/web.service\n", f"system.slice/other.service/{V2}", "50000 100000\n", False),
        # A container that sees its group's path outside, and its files at the root.
        ("0::/docker/0f3a\n", V2, "50000 100000\n", True),
        ("0::/../../pod7\n", V2, "50000 100000\n", True),
        # The older interface, and both.
        ("4:cpu,cpuacct:/pod7\n", f"cpu,cpuacct/pod7/{V1}", "-1\n", False),
        ("4:cpu,cpuacct:/pod7\n", f"cpu,cpuacct/pod7/{V1}", "200000\n", True),
        ("4:cpu,cpuacct:/pod7\n", f"cpu/{V1}", "200000\n", True),
        ("3:cpuset:/pod7\n2:cpuacct:/pod7\n", f"cpuset/pod7/{V1}", "200000\n", False),
        ("1:cpu:/a/b\n0::/c\n", f"cpu/a/{V1}", "200000\n", True),
        ("1:cpu:/a/b\n0::/c\n", f"unified/c/{V2}", "200000 100000\n", True),
    ],
)
def test_a_limit_is_found_where_it_holds(tmp_path: Path, groups: str, file: str, text: str, is_limit: bool) -> None:
    assert rationed(tmp_path, groups, **{file: text}) is is_limit


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert not is_rationed(tmp_path / "none", tmp_path)
    assert not rationed(tmp_path, "0::/a\n")


def test_what_cannot_be_read_is_no_limit(tmp_path: Path) -> None:
    (tmp_path / "fs" / V2).mkdir(parents=True)
    assert not rationed(tmp_path, "0::/\n")
    (tmp_path / "fs" / "a").mkdir()
    (tmp_path / "fs" / "a" / V2).write_bytes(b"\xff\xfe")
    assert not rationed(tmp_path, "0::/a\n")
    (tmp_path / "cgroup").write_text("nothing that a kernel writes")
    assert not is_rationed(tmp_path / "cgroup", tmp_path / "fs")
