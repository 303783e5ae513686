"""Discs that are written in one go: UDF beside ISO 9660, growisofs, and labels that wait for the burn.

growisofs itself writes only to real burners, so a stand-in is put in its place that has genisoimage write
the image; what it is called with is compared with growisofs(1).
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from test_optical_store import LABEL, bay, extracted, package, put, read

from drivers.base import VolumeLabel
from drivers.errors import NoSpace, Permanent, Retryable, WrongVolume
from drivers.optical import once
from drivers.optical.bay import DiscBay
from drivers.optical.once import GROWISOFS, UDF, growisofs_command
from hsm.export import target
from hsm.export.leavings import Leavings
from hsm.export.target import Kind, Target, caller_named

pytestmark = pytest.mark.skipif(
    shutil.which("xorriso") is None or shutil.which("genisoimage") is None,
    reason="xorriso or genisoimage is not installed",
)
STAND_IN = """\
#!/bin/sh
echo "$@" >>"{log}"
[ "$1 $2" = "-dvd-compat -Z" ] || exit 9
device=$3
shift 3
exec genisoimage -output "$device" "$@"
"""


def udf_disc(folder: Path) -> DiscBay:
    return bay(folder, append=False, file_system=UDF)


def udf_revision(image: Path) -> str:
    """As udfinfo of udftools reads it; empty where there is no UDF."""
    if shutil.which("udfinfo") is None:
        pytest.skip("udfinfo is not installed (Debian: udftools)")
    done = subprocess.run(["udfinfo", str(image)], capture_output=True, text=True, check=False)
    lines = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return lines.get("udfrev", "") if done.returncode == 0 else ""


def test_a_disc_with_udf_is_blank_until_its_one_burn_and_then_has_everything(tmp_path: Path) -> None:
    drive = udf_disc(tmp_path / "d")
    assert drive.read_label("DISC001") is None
    drive.label(LABEL)
    assert (tmp_path / "d" / "disc.iso").stat().st_size == 0
    drive = udf_disc(tmp_path / "d")  # after a restart
    assert drive.read_label("DISC001") == LABEL
    with pytest.raises(WrongVolume):
        drive.mount(VolumeLabel("DISC002", LABEL.uuid, LABEL.pool))
    store, data = drive.mount(LABEL), package("CT_small.dcm", "MR_small.dcm")
    put(store, "k", data)
    store.flush()
    assert read(store, "k") == data
    with pytest.raises(NoSpace, match="closed"):
        put(store, "more", b"x")
    drive.release()
    drive = udf_disc(tmp_path / "d")
    assert drive.read_label("DISC001") == LABEL, "from the disc now"
    assert read(drive.mount(LABEL), "k") == data
    disc = extracted(tmp_path / "d")
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=disc, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    assert udf_revision(tmp_path / "d" / "disc.iso") == "1.02"
    assert not list((tmp_path / "d" / "spool").rglob("*.iso")), "the image is gone"


def test_a_disc_whose_label_was_burnt_is_no_blank_one_for_another_disc(tmp_path: Path) -> None:
    drive = udf_disc(tmp_path / "d")
    drive.label(LABEL)
    put(drive.mount(LABEL), "k", package("CT_small.dcm"))
    drive.release()
    (tmp_path / "d" / "disc.iso").write_bytes(b"")  # another blank disc under the same name
    with pytest.raises(WrongVolume, match="blank"):
        udf_disc(tmp_path / "d").mount(LABEL)


def test_an_image_that_cannot_be_made_spoils_no_disc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drive = udf_disc(tmp_path / "d")
    drive.label(LABEL)
    store = drive.mount(LABEL)
    put(store, "k", b"abc")
    with monkeypatch.context() as patch:
        patch.setattr("drivers.optical.xorriso.installed", lambda _: False)
        with pytest.raises(Permanent):
            once.OnceBurner("stdio:/nowhere", None, program="xorriso", udf=True).burn(
                tmp_path, "X", close=False
            )
        with pytest.raises(Retryable, match=r"nothing was burnt.*genisoimage"):
            store.flush()
    assert store.health().ok
    store.flush()
    assert read(store, "k") == b"abc"


def test_a_file_that_the_file_system_cannot_hold_is_refused_and_costs_no_disc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(once.OnceBurner, "file_bytes_max", 1000)
    drive = udf_disc(tmp_path / "d")
    drive.label(LABEL)
    store = drive.mount(LABEL)
    with pytest.raises(Permanent, match="takes 1000 at most"):
        put(store, "k", package("CT_small.dcm"))
    assert list(store.list()) == []
    put(store, "small", b"abc")
    store.flush()
    assert read(store, "small") == b"abc"


def test_growisofs_burns_a_disc_in_one_session_and_closes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools, log = tmp_path / "bin", tmp_path / "log"
    tools.mkdir()
    (tools / "growisofs").write_text(STAND_IN.format(log=log))
    (tools / "growisofs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    drive = bay(tmp_path / "d", append=False, burner=GROWISOFS)
    drive.label(LABEL)
    store, data = drive.mount(LABEL), package("CT_small.dcm")
    put(store, "k", data)
    store.flush()
    assert read(store, "k") == data
    (called,) = log.read_text().splitlines()
    assert called.split()[:3] == ["-dvd-compat", "-Z", str(tmp_path / "d" / "disc.iso")]
    assert "-udf" not in called.split()
    drive.forget()
    assert read(drive.mount(LABEL), "k") == data


def test_a_growisofs_that_fails_spoils_the_disc_and_one_that_is_missing_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = bay(tmp_path / "d", append=False, burner=GROWISOFS)
    drive.label(LABEL)
    store = drive.mount(LABEL)
    put(store, "k", b"abc")
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("xorriso", "genisoimage"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(Retryable, match=r"dvd\+rw-tools"):
        store.flush()
    assert store.health().ok
    (tools / "growisofs").write_text("#!/bin/sh\necho ':-( write failed: Input/output error'\nexit 5\n")
    (tools / "growisofs").chmod(0o755)
    with pytest.raises(Permanent, match="write failed"):
        store.flush()
    assert not store.health().ok


def test_growisofs_is_called_as_its_manual_says() -> None:
    command = growisofs_command("/dev/sr0", Path("/spool/tree"), "DISC001", udf=True, speed=4)
    assert command == [
        *("growisofs", "-dvd-compat", "-Z", "/dev/sr0", "-speed=4"),
        *("-quiet", "-rational-rock", "-joliet", "-iso-level", "3", "-volid", "DISC001", "-udf"),
        "/spool/tree",
    ]


def test_an_export_to_a_disc_has_udf_where_that_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, device = tmp_path / "work" / "tree", tmp_path / "sr0"
    tree.mkdir(parents=True)
    (tree / "A").write_bytes(b"hello")
    device.touch()
    place = Target(Kind.DISC, device, caller_named("root"))
    look = target.xorriso.look

    def blank(named: str) -> Any:
        return look(f"stdio:{named}")

    monkeypatch.setattr(target.xorriso, "look", blank)
    target.deliver(place, tree, "EXPORT", Leavings(tmp_path / "notes"), udf=True)
    assert udf_revision(device) == "1.02"
