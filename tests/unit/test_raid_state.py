"""What is said of a RAID path: its ways over Fibre Channel, changes between two looks, the verdict."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.base import Notice, Severity
from drivers.raid import filesystem, mountinfo, multipathd, state
from drivers.raid.state import Snapshot, figures, verdict
from drivers.raid.sysfs import block_device

UUID = "0a3cbe6b-5b1d-4f0e-9d0c-3d6a2f9b7c11"
HOSTS = {3: "0x21000024ff3dc1a4", 4: "0x21000024ff3dc1a5"}
PORTS = {"3:0-0": "0x500a098288b1d6f1", "4:0-0": "0x500a098188b1d6f1"}
DISKS = {"sdb": "3:0:0:0", "sdc": "4:0:0:0"}


class Tree:
    """A sysfs with one multipath map over two FC adapters, laid out as the kernel does, to be changed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        block = root / "devices/virtual/block/dm-0"
        self.write(block / "size", 2 << 30)
        self.write(block / "dm/name", "pacs1")
        self.write(block / "dm/uuid", "mpath-3600a098038303053")
        self.link(root / "dev/block/254:0", block)
        for number, wwpn in HOSTS.items():
            host = root / f"devices/pci0000:00/host{number}/fc_host/host{number}"
            self.write(host / "port_name", wwpn)
            self.write(host / "port_state", "Online")
            self.write(host / "speed", "16 Gbit")
            self.write(host / "statistics/link_failure_count", "0x1")
            self.write(host / "statistics/loss_of_sync_count", "0x0")
            self.write(host / "statistics/error_frames", "0xffffffffffffffff")
            self.link(root / f"class/fc_host/host{number}", host)
        for name, wwpn in PORTS.items():
            port = root / f"class/fc_remote_ports/rport-{name}"
            self.write(port / "port_name", wwpn)
            self.write(port / "port_state", "Online")
        for disk, address in DISKS.items():
            number = address.split(":")[0]
            port = f"devices/pci0000:00/host{number}/rport-{number}:0-0"
            scsi = root / port / f"target{number}:0:0" / address
            self.write(scsi / "state", "running")
            self.write(scsi / "ioerr_cnt", "0x2")
            self.write(scsi / "block" / disk / "size", 2 << 30)
            self.link(scsi / "block" / disk / "device", scsi)
            self.link(block / "slaves" / disk, scsi / "block" / disk)

    @staticmethod
    def write(file: Path, content: object) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{content}\n")

    @staticmethod
    def link(name: Path, target: Path) -> None:
        name.parent.mkdir(parents=True, exist_ok=True)
        name.symlink_to(os.path.relpath(target, name.parent))

    def look(self, **against: str) -> Snapshot:
        device = block_device("254:0", self.root)
        return Snapshot(UUID, "xfs", "/archive/online", False, device, against)


def changes(before: Snapshot, after: Snapshot) -> tuple[Notice, ...]:
    return state.changes(before, after, UUID)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_multipath_device_is_known_with_its_paths_adapters_and_ports(tree: Tree) -> None:
    device = tree.look().device
    assert device is not None
    assert (device.name, device.label, device.multipath, device.size) == ("dm-0", "pacs1", "pacs1", 1 << 40)
    assert [(path.disk, path.address, path.up, path.errors) for path in device.paths] == [
        ("sdb", "3:0:0:0", True, 2),
        ("sdc", "4:0:0:0", True, 2),
    ]
    host, port = device.paths[0].host, device.paths[0].port
    assert host is not None and port is not None
    assert (host.name, host.port_name, host.speed) == ("host3", HOSTS[3], "16 Gbit")
    assert port.port_name == PORTS["3:0-0"]
    assert host.counters == {"link_failure_count": 1, "loss_of_sync_count": 0}, (
        "an unkept counter is left out"
    )


def test_a_volume_on_a_partition_of_a_multipath_map_still_knows_its_paths(tree: Tree) -> None:
    volume = tree.root / "devices/virtual/block/dm-1"
    tree.write(volume / "size", 4096)
    tree.write(volume / "dm/name", "vg-archive")
    tree.write(volume / "dm/uuid", "LVM-x")
    tree.link(volume / "slaves/dm-0", tree.root / "devices/virtual/block/dm-0")
    tree.link(tree.root / "dev/block/254:1", volume)
    device = block_device("254:1", tree.root)
    assert device is not None
    assert (device.label, device.multipath, len(device.paths)) == ("vg-archive", "pacs1", 2)


def test_a_device_that_is_gone_and_one_that_is_none_are_none(tree: Tree) -> None:
    assert block_device("254:9", tree.root) is None
    assert block_device("0:44", tree.root) is None


def lose_device(tree: Tree) -> None:
    scsi = tree.root / "devices/pci0000:00/host4/rport-4:0-0/target4:0:0/4:0:0:0"
    tree.write(scsi / "state", "transport-offline")


def lose_port(tree: Tree) -> None:
    tree.write(tree.root / "class/fc_remote_ports/rport-4:0-0/port_state", "Blocked")


def lose_link(tree: Tree) -> None:
    tree.write(tree.root / "class/fc_host/host4/port_state", "Linkdown")


def lose_disk(tree: Tree) -> None:
    (tree.root / "devices/virtual/block/dm-0/slaves/sdc").unlink()


@pytest.mark.parametrize(
    ("lose", "why"),
    [
        (lose_device, "the device is transport-offline"),
        (lose_port, f"remote port {PORTS['4:0-0']} is Blocked"),
        (lose_link, f"host4 ({HOSTS[4]}) is Linkdown"),
        (lose_disk, "the device is gone"),
    ],
)
def test_a_path_that_is_lost_warns_with_its_reason_and_the_count_and_is_told_when_it_is_back(
    tree: Tree, lose: Callable[[Tree], None], why: str
) -> None:
    before = tree.look()
    lose(tree)
    after = tree.look()
    (notice,) = changes(before, after)
    assert (notice.severity, notice.subject) == (Severity.WARNING, "sdc")
    assert notice.message == f"path sdc is lost: {why}; 1 of 2 paths are up"
    assert verdict(after, UUID, "/archive/online").ok, "one path is enough to go on"
    (back,) = changes(after, before)
    assert (back.severity, back.message) == (Severity.INFO, "path sdc is back; 2 of 2 paths are up")


def test_a_path_that_only_the_multipath_daemon_calls_faulty_is_lost(tree: Tree) -> None:
    before, after = tree.look(), tree.look(sdb="the path checker says faulty")
    (notice,) = changes(before, after)
    assert notice.message == "path sdb is lost: the path checker says faulty; 1 of 2 paths are up"
    health = verdict(after, UUID, "/archive/online")
    assert health.ok and "1 of 2 paths are up (sdb: the path checker says faulty)" in health.message


def test_the_last_path_lost_is_an_error_and_takes_the_pool_out_of_service(tree: Tree) -> None:
    lose_link(tree)
    one = tree.look()
    tree.write(tree.root / "class/fc_host/host3/port_state", "Linkdown")
    none = tree.look()
    (notice,) = changes(one, none)
    assert notice.severity is Severity.ERROR and "0 of 2 paths are up" in notice.message
    assert not verdict(none, UUID, "/archive/online").ok


def test_growing_error_counters_are_told_with_the_port_to_look_at(tree: Tree) -> None:
    before = tree.look()
    tree.write(tree.root / "class/fc_host/host3/statistics/loss_of_sync_count", "0xc")
    scsi = tree.root / "devices/pci0000:00/host3/rport-3:0-0/target3:0:0/3:0:0:0"
    tree.write(scsi / "ioerr_cnt", "0x5")
    told = [(notice.subject, notice.message) for notice in changes(before, tree.look())]
    assert told == [
        ("sdb", "path sdb: 3 more commands ended in an error"),
        ("host3", f"host3 ({HOSTS[3]}): loss_of_sync_count went from 0 to 12; look at its cable and optics"),
    ]


@pytest.mark.parametrize(("sectors", "severity"), [(4 << 30, Severity.INFO), (1 << 30, Severity.ERROR)])
def test_a_device_of_another_size_is_told(tree: Tree, sectors: int, severity: Severity) -> None:
    before = tree.look()
    tree.write(tree.root / "devices/virtual/block/dm-0/size", sectors)
    (notice,) = changes(before, tree.look())
    assert notice.severity is severity
    assert f"pacs1 has {sectors * 512} bytes now, it had {1 << 40}" in notice.message


def test_a_device_gone_a_mount_gone_and_a_read_only_remount_are_errors(tree: Tree) -> None:
    good = tree.look()
    for bad, words in (
        (replace(good, device=None), "the device pacs1 (dm-0) is gone"),
        (replace(good, fs_uuid=None), f"{UUID} is not at /archive/online any more, but nothing"),
        (replace(good, fs_uuid="other"), "any more, but the file system other"),
        (replace(good, read_only=True), "/archive/online has become read-only"),
    ):
        notices = changes(good, bad)
        assert [notice.severity for notice in notices] == [Severity.ERROR]
        assert words in notices[0].message
        assert {notice.severity for notice in changes(bad, good)} <= {Severity.INFO}


def test_a_read_only_or_another_file_system_is_not_healthy_and_says_what_to_do(tree: Tree) -> None:
    seen = tree.look()
    assert "run fsck" in verdict(replace(seen, read_only=True), UUID, "/a").message
    other = verdict(seen, "11111111-2222-3333-4444-555555555555", "/a")
    assert not other.ok and f"is on file system {UUID}" in other.message and "lsblk" in other.message
    assert verdict(seen, UUID.upper(), "/a").ok, "UUIDs are compared without case"


def test_nothing_that_changed_is_nothing_told(tree: Tree) -> None:
    assert changes(tree.look(), tree.look()) == ()


def test_the_figures_name_paths_ports_and_counters(tree: Tree) -> None:
    lose_port(tree)
    found = {
        (figure.name, dict(figure.labels).get("path", "")): figure.value for figure in figures(tree.look())
    }
    assert found["paths", ""] == 2 and found["paths_up", ""] == 1
    assert found["path_up", "sdb"] == 1 and found["path_up", "sdc"] == 0
    counters = {
        figure.labels: figure.value for figure in figures(tree.look()) if figure.name == "fc_errors_total"
    }
    assert counters[("host", "host3"), ("counter", "link_failure_count")] == 1


def test_multipathds_answer_is_read_and_rubbish_is_no_answer() -> None:
    paths = [
        {"dev": "sdb", "dm_st": "active", "chk_st": "ready"},
        {"dev": "sdc", "dm_st": "failed", "chk_st": "faulty"},
        {"dev": "sdd", "dm_st": "failed", "chk_st": "ready"},
        {"dev": "sde", "dm_st": "active", "chk_st": "ghost"},
    ]
    answer = json.dumps({"map": {"path_groups": [{"paths": paths[:2]}, {"paths": paths[2:]}]}})
    assert multipathd.path_states("pacs1", lambda argv, timeout: answer) == {
        "sdb": "",
        "sdc": "the path checker says faulty",
        "sdd": "the device mapper has given it up",
        "sde": "",
    }
    for rubbish in ("", "fail", "{}", '{"map": {"path_groups": [{}]}}', '{"map": 7}'):
        assert multipathd.path_states("pacs1", lambda argv, timeout, said=rubbish: said) == {}
    assert multipathd.path_states("pacs1", lambda argv, timeout: None) == {}


MOUNTS = """\
22 1 65:24 / / rw,relatime - ext4 /dev/vda rw
30 22 254:0 / /archive/on\\040line rw,noatime - xfs /dev/mapper/pacs1 rw,attr2
31 22 254:1 / /archive rw - ext4 /dev/mapper/pacs2 ro
a line of another shape
"""


def test_mountinfo_gives_the_innermost_mount_and_its_read_only_state(tmp_path: Path) -> None:
    inner = mountinfo.mount_of("/archive/on line/pool", MOUNTS)
    assert inner is not None and (inner.source, inner.kind, inner.read_only) == (
        "/dev/mapper/pacs1",
        "xfs",
        False,
    )
    outer = mountinfo.mount_of("/archive/online", MOUNTS)
    assert outer is not None and (outer.device, outer.read_only) == ("254:1", True)
    assert mountinfo.mount_of("/archives", MOUNTS) == next(mountinfo.parse(MOUNTS))
    (broken,) = mountinfo.parse("44 27 7:0 / /a rw,relatime - ext4 /dev/loop0 rw,emergency_ro\n")
    assert broken.read_only, "after an error, as Linux 6.15 and later say it"
    over = mountinfo.mount_of("/archive", MOUNTS + "40 31 0:50 / /archive rw - tmpfs none rw\n")
    assert over is not None and over.kind == "tmpfs", "what was mounted later covers the earlier"


def test_an_older_kernels_uuid_comes_from_udevs_database_or_its_links(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    number = os.fstat(folder).st_dev
    udev = tmp_path / "udev"
    udev.mkdir()
    nothing = tmp_path / "none"
    try:
        if filesystem.uuid_of(folder, nothing, nothing) is not None:
            pytest.skip("this kernel tells the UUID of the file system of the test's own folder")
        (udev / f"b{os.major(number)}:{os.minor(number)}").write_text(f"S:disk/x\nE:ID_FS_UUID={UUID}\n")
        assert filesystem.uuid_of(folder, udev, nothing) == UUID
    finally:
        os.close(folder)
