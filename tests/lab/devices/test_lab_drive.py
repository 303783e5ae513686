"""A tape drive by ``mt`` and the ``st`` driver: positions, blocks, ends, and what is refused."""

from __future__ import annotations

import errno
import os
import re
import time

import pytest
from instruments import (
    BLOCK,
    BSF,
    EOM,
    FSF,
    FSR,
    OPERATION_READ,
    OPERATION_WRITE,
    REWIND,
    SEEK,
    SETBLK,
    WEOF,
    Tape,
    ask,
    fail,
    mt,
    mtx,
    opened,
    run,
)

SOON_SECONDS = 5.0


def loaded(slot: int, drive: int = 0) -> None:
    answer = mtx("load", slot, drive)
    assert answer.returncode == 0, answer.stderr


def flags(drive: int = 0) -> set[str]:
    """The words in the last line of ``mt status``."""
    answer = mt(drive, "status")
    assert answer.returncode == 0, answer.stderr
    return set(answer.stdout.splitlines()[-1].split())


def files(tape: Tape, count: int) -> list[list[bytes]]:
    """Write ``count`` tape files of one to ``count`` blocks; return what was written."""
    written = [[os.urandom(BLOCK) for _ in range(at + 1)] for at in range(count)]
    for blocks in written:
        for block in blocks:
            assert tape.write(block) == BLOCK
        tape.operate(WEOF)
    return written


def test_an_empty_drive_says_so_at_once_when_nobody_waits_for_a_tape() -> None:
    """A blocking open would wait for two minutes; ``mt status`` and O_NONBLOCK do not."""
    begun = time.monotonic()
    assert "DR_OPEN" in flags()
    with opened(0, os.O_RDWR | os.O_NONBLOCK) as tape, pytest.raises(OSError) as error:
        tape.operate(REWIND)
    assert error.value.errno in (errno.EIO, errno.ENOMEDIUM)
    assert time.monotonic() - begun < SOON_SECONDS


def test_a_drive_that_is_loading_comes_on_line_later_and_then_must_be_rewound() -> None:
    """Who looked while it was loading gets no file number: the kernel's count begins at a rewind."""
    ask("set", drive=0, name="load_seconds", value=2)
    loaded(1)
    begun = time.monotonic()
    assert flags().isdisjoint({"ONLINE", "DR_OPEN"})
    while "ONLINE" not in flags():
        assert time.monotonic() - begun < 30
        time.sleep(0.1)
    assert "File number=-1" in mt(0, "status").stdout
    assert mt(0, "rewind").returncode == 0
    assert "BOT" in flags()


def test_mt_status_tells_generation_block_size_and_where_the_tape_stands() -> None:
    loaded(1)
    text = mt(0, "status").stdout
    assert "File number=0, block number=0, partition=0." in text
    assert "Tape block size 0 bytes. Density code 0x5a (LTO-6)." in text
    assert {"BOT", "ONLINE"} <= flags()


def test_what_was_written_is_read_back_by_files_and_by_locating() -> None:
    loaded(1)
    with opened(0) as tape:
        written = files(tape, 3)
        assert tape.position() == 9
        tape.operate(SEEK, 5)
        assert [tape.read() for _ in range(3)] == written[2]
        assert tape.read() == b""  # the filemark
        tape.operate(REWIND)
        tape.operate(FSF)
        assert [tape.read(), tape.read()] == written[1]
        tape.operate(BSF)  # to the near side of the mark before this file
        tape.operate(FSF)
        tape.operate(FSR)
        assert tape.read() == written[1][1]


def test_positions_count_filemarks_and_survive_a_reload_in_the_other_drive() -> None:
    loaded(1)
    with opened(0) as tape:
        written = files(tape, 2)
    mtx("unload", 1, 0)
    loaded(1, 1)
    with opened(1, os.O_RDONLY) as tape:
        tape.operate(SEEK, 2)
        assert tape.read() == written[1][0]
        tape.operate(EOM)
        assert tape.position() == 5


def test_mt_seeks_rewinds_and_finds_the_end_of_data() -> None:
    loaded(1)
    with opened(0) as tape:
        files(tape, 3)
    assert mt(0, "tell").stdout.strip() == "At block 9."
    for words, says in (
        (("seek", 2), "At block 2."),
        (("eod",), "At block 9."),
        (("rewind",), "At block 0."),
    ):
        assert mt(0, *words).returncode == 0
        assert mt(0, "tell").stdout.strip() == says
    assert mt(0, "seek", 1000).returncode != 0


def test_the_kernel_loses_count_of_files_after_a_seek_and_the_drive_does_not() -> None:
    """Why the product keeps block positions (MTIOCPOS) and never file numbers."""
    loaded(1)
    with opened(0) as tape:
        files(tape, 2)
        tape.operate(SEEK, 2)
        assert tape.file_number() == -1
        assert tape.position() == 2


def test_the_first_read_at_the_end_of_data_is_empty_and_the_next_fails() -> None:
    loaded(1)
    with opened(0) as tape:
        files(tape, 1)
        tape.operate(REWIND)
        tape.operate(FSF)
        assert tape.read() == b""
        with pytest.raises(OSError) as error:
            tape.read()
        assert error.value.errno == errno.EIO


def test_a_record_longer_than_the_buffer_is_an_error_and_not_a_short_read() -> None:
    loaded(1)
    with opened(0) as tape:
        files(tape, 1)
        tape.operate(REWIND)
        with pytest.raises(OSError) as error:
            tape.read(BLOCK // 2)
        assert error.value.errno == errno.ENOMEM


def test_fixed_blocks_are_written_many_at_a_time() -> None:
    loaded(1)
    assert mt(0, "setblk", 65536).returncode == 0
    assert "Tape block size 65536 bytes" in mt(0, "status").stdout
    data = os.urandom(65536 * 4)
    with opened(0) as tape:
        assert tape.write(data) == len(data)
        tape.operate(WEOF)
        assert tape.position() == 5
        tape.operate(REWIND)
        assert tape.read(len(data)) == data
        with pytest.raises(OSError):
            tape.write(b"x" * 100)
    with opened(0) as tape:
        tape.operate(SETBLK, 0)


def test_a_write_makes_what_follows_it_unreachable() -> None:
    """Tape is not disk: who writes in the middle ends the tape there."""
    loaded(1)
    with opened(0) as tape:
        files(tape, 3)
        tape.operate(SEEK, 2)
        tape.write(b"one record")
        tape.operate(WEOF)
        tape.operate(EOM)
        assert tape.position() == 4


def test_the_early_warning_leaves_room_for_a_trailer() -> None:
    loaded(6)
    block, total = os.urandom(BLOCK), 0
    with opened(0) as tape:
        with pytest.raises(OSError) as error:
            while True:
                total += tape.write(block)
        assert error.value.errno == errno.ENOSPC
        tape.operate(WEOF)
        assert tape.write(b"index".ljust(80)) == 80
    assert 3_000_000 < total < 4 << 20
    mt(0, "eod")
    end = mt(0, "tell").stdout
    assert int(re.findall(r"\d+", end)[0]) == total // BLOCK + 3


def test_a_write_error_is_eio_and_shows_in_the_counters_and_alerts() -> None:
    loaded(2, 1)
    fail(OPERATION_WRITE, (3, 0x0C, 0), device=1, skip=2, alerts=[3, 6])
    with opened(1) as tape:
        tape.write(b"x" * 1024)
        tape.write(b"y" * 1024)
        with pytest.raises(OSError) as error:
            tape.write(b"z" * 1024)
        assert error.value.errno == errno.EIO


def test_a_bad_spot_cannot_be_read_and_what_lies_behind_it_can() -> None:
    loaded(1)
    fail(OPERATION_READ, (3, 0x11, 0), at=[0, 2], times=99)
    with opened(0) as tape:
        written = files(tape, 2)
        tape.operate(SEEK, 2)
        with pytest.raises(OSError) as error:
            tape.read()
        assert error.value.errno == errno.EIO
        tape.operate(SEEK, 3)
        assert tape.read() == written[1][1]


def test_a_write_protected_cartridge_is_refused_when_it_is_opened() -> None:
    loaded(4)
    with pytest.raises(OSError) as error, opened(0):
        pass
    assert error.value.errno == errno.EROFS
    assert "WR_PROT" in flags()


def test_a_worm_cartridge_takes_every_record_once() -> None:
    loaded(5)
    descriptor = os.open("/dev/nst0", os.O_RDWR)
    tape = Tape(descriptor)
    tape.write(b"a" * 512)
    tape.operate(REWIND)
    with pytest.raises(OSError):
        tape.write(b"b" * 512)
    with pytest.raises(OSError):
        os.close(descriptor)  # the driver's closing filemark fails too


def test_a_cleaning_cartridge_is_not_a_tape() -> None:
    loaded(7)
    assert flags().isdisjoint({"ONLINE", "BOT"})
    with opened(0, os.O_RDWR | os.O_NONBLOCK) as tape, pytest.raises(OSError):
        tape.operate(REWIND)


def test_an_ejected_cartridge_is_still_in_the_drive_but_not_on_line() -> None:
    loaded(1)
    assert mt(0, "offline").returncode == 0
    assert "ONLINE" not in flags()
    assert mtx("unload", 1, 0).returncode == 0


def test_tar_writes_and_reads_a_tape_by_hand(tmp_path: pytest.TempPathFactory) -> None:
    folder = str(tmp_path)
    with open(f"{folder}/study", "wb") as study:
        study.write(os.urandom(700_000))
    loaded(1)
    made = run("tar", "-b", "512", "-cf", "/dev/nst0", "-C", folder, "study")
    assert made.returncode == 0, made.stderr
    mt(0, "rewind")
    assert run("tar", "-b", "512", "-df", "/dev/nst0", "-C", folder).returncode == 0
