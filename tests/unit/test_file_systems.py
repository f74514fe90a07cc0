"""Which file system holds a path, by the kernel's list of mounts."""

from pathlib import Path

import pytest

from channels_trunk.file_systems import NETWORK_FILE_SYSTEMS, file_system_of

MOUNTS = """\
rootfs / ext4 rw 0 0
server:/srv /mnt/share nfs4 rw 0 0
tmpfs /mnt/share/local tmpfs rw 0 0
//server/c /mnt/with\\040space cifs rw 0 0
odd
first /mnt/twice ext4 rw 0 0
second /mnt/twice nfs rw 0 0
"""


@pytest.fixture
def mounts(tmp_path: Path) -> str:
    listing = tmp_path / "mounts"
    listing.write_text(MOUNTS)
    return str(listing)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/srv/db.sqlite3", "ext4"),
        ("/mnt/share", "nfs4"),
        ("/mnt/share/db.sqlite3", "nfs4"),
        ("/mnt/share/local/db.sqlite3", "tmpfs"),
        ("/mnt/sharers/db.sqlite3", "ext4"),  # begins alike, and is not inside
        ("/mnt/with space/db.sqlite3", "cifs"),
        ("/mnt/twice/db.sqlite3", "nfs"),  # the later mount covers the earlier
        ("/mnt/share/local/../db.sqlite3", "nfs4"),
    ],
)
def test_the_innermost_mount_holds_the_path(path: str, kind: str, mounts: str) -> None:
    assert file_system_of(path, mounts) == kind


def test_links_are_followed(tmp_path: Path, mounts: str) -> None:
    link = tmp_path / "link"
    link.symlink_to("/mnt/share")

    assert file_system_of(str(link / "db.sqlite3"), mounts) == "nfs4"


def test_without_a_list_of_mounts_nothing_is_said(tmp_path: Path) -> None:
    assert file_system_of("/", str(tmp_path / "missing")) is None


def test_what_is_local_is_no_network_file_system() -> None:
    assert not NETWORK_FILE_SYSTEMS & {"ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "apfs"}
    assert {"nfs", "nfs4", "cifs", "smb3"} <= NETWORK_FILE_SYSTEMS
