"""What the words of LTFS's commands are taken to mean, and what its options may say; nothing is run."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.base import VolumeLabel
from drivers.errors import Corrupt, DriverError, OperatorNeeded, Permanent, Retryable, WrongVolume
from drivers.tape import label as labels
from drivers.tape.configure import open_mtx
from drivers.tape.fakelibrary import CHANGER, fake_library
from drivers.tape.label import Content
from drivers.tape.ltfs import commands, messages, partlabels
from drivers.tape.ltfs.child import FLOOD_BYTES, HEAD_BYTES, TAIL_BYTES, Child, run
from drivers.tape.ltfs.commands import Commands, fill
from drivers.tape.ltfs.messages import Step
from drivers.tape.ltfs.mounting import Identity, require_serial
from drivers.tape.ltfs.partlabels import PartitionLabel
from drivers.tape.ltfs.volume import LtfsLabel, decode, encode, serial_of

HARMLESS = "2b5d LTFS30061E Cannot unlock medium: unit not ready.\n"
UNCLEAN = HARMLESS + "3296 LTFS11220E Medium check failed: extra blocks detected. Run ltfsck.\n"
NO_END = HARMLESS + "LTFS17146E EOD of DP(1) is missing. A deep recovery operation is required.\n"


def test_an_error_line_that_comes_with_every_run_is_no_complaint() -> None:
    assert "30061E" not in messages.complaint(HARMLESS + "LTFS11095E Cannot format.\n")
    assert messages.complaint("") == "it said nothing"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("LTFS17168E Cannot read volume: medium is not partitioned.", WrongVolume),
        ("LTFS11009E Cannot read volume: failed to read partition labels.", Retryable),
        ("LTFS10004E Cannot open device '/dev/sg9'.", OperatorNeeded),
        ("LTFS14094E Cannot open mountpoint.", Permanent),
        ("LTFS14123W FUSE failed.", Retryable),
        ("fuse: mountpoint is not empty", Retryable),
        ("LTFS11220E Medium check failed: extra blocks detected. Run ltfsck.", Corrupt),
        ("LTFS12049E something new", Retryable),
        ("", Retryable),
    ],
)
def test_a_mount_that_failed_tells_what_to_do_next(said: str, kind: type[DriverError]) -> None:
    error = messages.mount_error(HARMLESS + said, "mount A in drive 1")
    assert type(error) is kind
    assert "mount A in drive 1" in str(error)


def test_a_format_counts_only_with_status_0_and_its_own_words() -> None:
    messages.formatted(0, "LTFS15024I Medium formatted successfully.\n", "format A")
    for status, said, kind in (
        (0, "", Retryable),
        (8, "LTFS15024I Medium formatted successfully.\n", Retryable),
        (-11, "LTFS30001I Opening\n", Retryable),
        (16, "LTFS15047E Medium is already formatted (0).\nLTFS15048I Need -f\n", WrongVolume),
        (16, "LTFS15030E bad serial\n", Permanent),
        (8, "LTFS11095E Cannot format: the medium is write protected.\n", Permanent),
    ):
        with pytest.raises(kind, match="format A"):
            messages.formatted(status, said, "format A")


def test_a_wipe_that_exits_with_1_has_wiped() -> None:
    messages.wiped(1, "LTFS15040I Medium unformatted successfully.\n", "wipe A")
    with pytest.raises(Retryable):
        messages.wiped(0, "", "wipe A")


def test_ltfsck_says_1_for_a_healthy_volume() -> None:
    healthy = "LTFS16022I Volume is consistent.\n"
    assert messages.checked(1, healthy)
    assert messages.checked(0, healthy)
    assert not messages.checked(4, healthy)
    assert not messages.checked(1, "")
    assert not messages.checked(0, "LTFS16021E Volume is inconsistent and was not corrected.\n")


def test_an_unmount_is_good_only_when_ltfs_says_that_the_index_was_written() -> None:
    messages.unmounted("LTFS11034I Volume unmounted successfully.\n", "A")
    for said in ("", "LTFS11033E Cannot unmount.\n", "LTFS11033E no\nLTFS11034I Volume unmounted\n"):
        with pytest.raises(Retryable, match="A"):
            messages.unmounted(said, "A")


def test_checks_go_no_deeper_than_they_must() -> None:
    steps = [Step.MOUNT]
    while steps[-1] is not Step.GIVE_UP:
        steps.append(messages.next_step(steps[-1], UNCLEAN))
    assert steps == [Step.MOUNT, Step.CHECK, Step.FULL, Step.DEEP, Step.GIVE_UP]
    assert messages.next_step(Step.MOUNT, NO_END) is Step.DEEP
    assert messages.next_step(Step.DEEP, NO_END) is Step.GIVE_UP
    assert messages.next_step(Step.MOUNT, "LTFS17168E not partitioned\n") is Step.GIVE_UP


def test_an_index_that_was_read_and_is_damaged_is_checked_and_one_that_the_drive_could_not_read_is_not() -> (
    None
):
    damaged = HARMLESS + "LTFS11194W Cannot read index: failed to read and parse XML data (-5000).\n"
    foreign = (
        HARMLESS + "LTFS11195W This index belongs to a different volume.\nLTFS11024E Cannot mount volume\n"
    )
    assert messages.next_step(Step.MOUNT, damaged) is Step.CHECK
    assert messages.next_step(Step.MOUNT, foreign) is Step.CHECK
    assert isinstance(messages.mount_error(foreign, "A"), Corrupt)
    for drive in ("LTFS12049E Cannot read: medium not present.", "30001 LTFS30263E READ returns -21700"):
        assert messages.next_step(Step.MOUNT, f"{damaged}{drive}\n") is Step.GIVE_UP
        assert isinstance(messages.mount_error(f"{damaged}{drive}\n", "A"), Retryable)


@given(st.text(max_size=300), st.sampled_from(list(Step)))
def test_whatever_ltfs_says_a_check_follows_only_a_lesser_one(said: str, done: Step) -> None:
    step = messages.next_step(done, said)
    assert step > done or step is Step.GIVE_UP
    assert len(messages.complaint(said)) <= 400


def test_a_read_only_mount_says_why() -> None:
    assert messages.read_only(HARMLESS) == ""
    assert "write protected" in messages.read_only("1 LTFS14019I Medium is write protected. Mounting.\n")


def test_a_cartridge_is_the_one_only_when_label_and_chip_agree() -> None:
    require_serial(Identity("u", "HSM001", "HSM001L8"), "HSM001", "mount")
    require_serial(Identity("u", "HSM001", ""), "HSM001", "mount")
    for identity in (Identity("u", "HSM002"), Identity("u", "HSM001", "HSM002L8"), Identity("u", "")):
        with pytest.raises(WrongVolume, match="nothing was written"):
            require_serial(identity, "HSM001", "mount")


def test_a_label_is_what_was_written_and_nothing_else() -> None:
    label = LtfsLabel(VolumeLabel("HSM001L8", "uuid", "tape-ä"), "ltfs-uuid")
    assert decode(encode(label)) == label
    for damaged in (b"", b"{}", b"[]", b"null", encode(label)[:-9], encode(label).replace(b"1", b"2", 1)):
        with pytest.raises(ValueError, match=r"."):
            decode(damaged)


LABEL = PartitionLabel("HSM001", "6f1e0a52-0000-4000-8000-000000000001", "2026-01-01", "524288", "true")


def xml_of(label: PartitionLabel) -> bytes:
    inner = "".join(
        f"<{name}>{getattr(label, name)}</{name}>" for name in LABEL.__slots__ if name != "serial"
    )
    return f'<?xml version="1.0" encoding="UTF-8"?><ltfslabel version="2.4.0">{inner}</ltfslabel>'.encode()


@given(st.data())
def test_no_flipped_bit_of_a_partitions_label_is_taken_for_a_damage_of_the_other_one(
    data: st.DataObject,
) -> None:
    records = [f"VOL1HSM001L{'':13}{'LTFS':13}{'':14}{'':28}4".encode(), xml_of(LABEL)]
    bad, which = data.draw(st.integers(0, 1)), data.draw(st.integers(0, 1))
    flipped = bytearray(records[which])
    flipped[data.draw(st.integers(0, len(flipped) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    damaged = [*records[:which], bytes(flipped), *records[which + 1 :]]
    both = [partlabels.label_of(*(damaged if at == bad else records)) for at in (0, 1)]
    words = partlabels.damage(both, "HSM001", LABEL.volumeuuid)
    assert f"label of {partlabels.PARTITIONS[1 - bad]} is damaged" not in words
    assert "both partitions" not in words
    if isinstance(both[bad], str):
        assert f"that of {partlabels.PARTITIONS[1 - bad]} is whole: serial number HSM001" in words


def test_labels_that_do_not_agree_are_judged_by_what_is_known_of_the_cartridge() -> None:
    other = dataclasses.replace(LABEL, volumeuuid="6f1e0a52-0000-4000-8000-000000000009")
    words = partlabels.damage([LABEL, other], "HSM001", LABEL.volumeuuid)
    assert f"label of {partlabels.PARTITIONS[1]} is damaged" in words
    assert "do not agree (volumeuuid" in partlabels.damage([LABEL, other], "HSM001")
    assert partlabels.damage([LABEL, LABEL], "HSM001", LABEL.volumeuuid) == ""
    assert "both partitions" in partlabels.damage([LABEL, LABEL], "HSM002")


def test_what_nobody_but_ltfs_can_look_at_is_said_as_ltfs_says_it() -> None:
    of_0 = "LTFS11170E Failed to read label (-1012) from partition 0.\nLTFS11009E Cannot read volume\n"
    of_1 = of_0.replace("11170E", "11171E").replace("partition 0", "partition 1")
    assert messages.labels_damaged(of_0)
    assert "not looked at" in partlabels.by_ltfs(messages.partition_with_bad_label(of_0))
    assert "index partition (0) is whole" in partlabels.by_ltfs(messages.partition_with_bad_label(of_1))
    drive = of_0.replace("-1012", "-20301")
    assert not messages.labels_damaged(drive), "a drive that cannot read says nothing of the label"


def test_an_ltfs_header_is_known_by_its_implementation_and_not_by_its_serial_number() -> None:
    header = f"VOL1ABC123L{'':13}{'LTFS':13}{'':14}{'':28}4".encode()
    found = labels.describe(header)
    assert (found.content, found.words, found.ltfs_serial) == (
        Content.FOREIGN,
        "an LTFS volume (ABC123)",
        "ABC123",
    )
    assert labels.describe(header.replace(b"LTFS", b"TFSL")).ltfs_serial == ""
    assert "VOL1 record is damaged" in labels.describe(header.replace(b"LTFS", b"LTGS")).words


@pytest.mark.parametrize("barcode", ["", "ABC12", "abc123L8", "ABC-12L8", "ÄBC123L8"])
def test_a_barcode_that_is_no_ltfs_serial_number_is_refused(barcode: str) -> None:
    with pytest.raises(Permanent, match="six characters"):
        serial_of(barcode)


def test_every_place_of_a_command_is_filled() -> None:
    words = fill(Commands().mkltfs, device="/dev/sg1", serial="ABC123", name="ABC123L8")
    assert words == ["mkltfs", "-d", "/dev/sg1", "-s", "ABC123", "-n", "ABC123L8"]


def test_commands_may_be_text_or_words_and_limits_numbers() -> None:
    given = {"mount": "/opt/ltfs -f -o 'devname={device}' {mountpoint}", "check": ["ltfsck", "{device}"]}
    found = commands.from_options({"ltfs": given | {"check_seconds": 5, "mountpoints": "/srv/ltfs"}})
    assert found.mount == ("/opt/ltfs", "-f", "-o", "devname={device}", "{mountpoint}")
    assert (found.check_seconds, found.mountpoints) == (5.0, Path("/srv/ltfs"))
    assert found.mkltfs == Commands().mkltfs


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("mkltfs", "expected settings by name"),
        ({"mkfs": "x"}, "mkfs not known"),
        ({"mkltfs": 5}, "expected a command"),
        ({"mkltfs": "mkltfs '"}, "mkltfs"),
        ({"mkltfs": ""}, "empty"),
        ({"mkltfs": "mkltfs {drive}"}, "{drive} is not known"),
        ({"mkltfs": "mkltfs {device.__class__}"}, "is not known"),
        ({"mkltfs": "mkltfs {device"}, "mkltfs"),
        ({"device": "{mountpoint}"}, "is not known"),
        ({"mountpoints": "run/ltfs"}, "not an absolute path"),
        ({"mount_seconds": -1}, "mount_seconds"),
        ({"mount_seconds": "soon"}, "mount_seconds"),
    ],
)
def test_options_that_are_wrong_are_refused_with_their_name(given: Any, words: str) -> None:
    with pytest.raises(Permanent, match=re.escape(words)):
        commands.from_options({"ltfs": given})


def test_a_drive_is_never_named_by_a_relative_path() -> None:
    """A relative one mounts, and fails on its first input or output."""
    assert Commands().device_of("/dev/nst0", "/dev/sg1", "S") == "/dev/sg1"
    assert Commands(device="{serial}").device_of("/dev/nst0", None, "10WT1") == "10WT1"
    for device, generic, serial in (
        ("{generic}", None, "S"),
        ("{serial}", "/dev/sg1", ""),
        ("drives/0", None, ""),
    ):
        with pytest.raises(Permanent, match="/dev/nst0"):
            Commands(device=device).device_of("/dev/nst0", generic, serial)


@pytest.mark.parametrize(
    "options", [{"format": "tar"}, {"pool_formats": {"a": "tar"}}, {"pool_formats": "ltfs"}]
)
def test_a_format_that_is_not_there_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(Permanent, match=r"format"):
        open_mtx({"changer": CHANGER, **options}, fake_library(()))


def test_much_output_is_kept_at_its_beginning_and_its_end() -> None:
    child = Child(["sh", "-c", "echo first; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo last"])
    assert child.wait(30) == 0
    text = child.text()
    assert text.startswith("first\n")
    assert text.endswith("\nlast\n")
    assert len(text) <= HEAD_BYTES + 2 * TAIL_BYTES + 10


def test_a_command_is_ended_when_it_takes_too_long_or_says_too_much() -> None:
    with pytest.raises(Retryable, match=r"more than 0\.05 s"):
        run(["sleep", "60"], 0.05, "check A")
    with pytest.raises(Retryable, match="without end"):
        run(["yes"], 60, "check A")
    assert FLOOD_BYTES < 1 << 26


def test_a_command_that_is_not_there_names_itself() -> None:
    with pytest.raises(Permanent, match="/nowhere/mkltfs cannot be run"):
        run(["/nowhere/mkltfs"], 1, "format A")
