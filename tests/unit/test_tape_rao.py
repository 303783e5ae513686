"""Asking a drive in which order it would read: bytes as SSC-5 lays them out; drives that do not know it."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.base import Ordering, VolumeLabel
from drivers.errors import Retryable
from drivers.tape import rao
from drivers.tape.configure import open_mtx
from drivers.tape.fakelibrary import CHANGER, FakeIo, fake_library
from drivers.tape.library import TapeLibrary
from drivers.tape.rao import Segment
from hsm.model import Priority
from hsm.planner import Extent, recommended
from tests.unit.test_planner import read

ONE, DRIVE = VolumeLabel("HSM001L9", "uuid-1", "tape-a"), 60_000
TWO_SEGMENTS = bytes.fromhex(
    "00000000 00000040"  # reserved, length of the list
    "001e 000000 30303030303030303030 01 0000000000000010 0000000000000200"
    "001e 000000 30303030303030303031 01 0000000100000000 0000000100000009"
)


@pytest.fixture
def machine() -> FakeIo:
    return fake_library(("HSM001L9",))


def mounted(machine: FakeIo) -> TapeLibrary:
    library = open_mtx({"changer": CHANGER}, machine)
    library.label(ONE, DRIVE)
    store = library.mount(ONE, DRIVE)
    for number in range(5):
        store.put(f"k{number}", io.BytesIO(b"x" * 1000), 1000, None)
    return library


def test_the_parameter_list_is_laid_out_as_the_standard_says() -> None:
    segments = [Segment(1, 0x10, 0x200), Segment(1, 1 << 32, (1 << 32) + 9)]
    assert rao.parameters(segments) == TWO_SEGMENTS


def test_the_commands_are_maintenance_in_and_out_with_service_action_1d() -> None:
    assert " ".join(rao.limits_command("/dev/sg3")).endswith("/dev/sg3 a3 9d 00 00 00 00 00 00 00 04 00 00")
    given = " ".join(rao.generate_command("/dev/sg3", "f", 72))
    assert given.endswith("/dev/sg3 a4 1d 02 00 00 00 00 00 00 48 00 00")
    assert "--send=72 --infile=f" in given
    asked = " ".join(rao.receive_command("/dev/sg3", 2))
    assert asked.endswith("/dev/sg3 a3 1d 00 00 00 00 00 00 00 88 00 00")


def test_an_order_is_read_whatever_the_length_of_its_descriptors() -> None:
    first, second = TWO_SEGMENTS[8:40], TWO_SEGMENTS[40:]
    longer = (38).to_bytes(2, "big") + second[2:] + bytes(8)
    answer = bytes((2, 1, 0, 0)) + (72).to_bytes(4, "big") + longer + first
    assert rao.parse_order(answer + bytes(100), 2) == (1, 0)
    assert rao.parse_limits(bytes((0x0A, 0xAA, 0xFF, 0xFF))) == 2730


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        bytes((1, 0, 0, 0)) + TWO_SEGMENTS[4:],  # not reordered
        bytes((2, 0, 0, 0)) + TWO_SEGMENTS[4:60],  # cut short
        bytes((2, 0, 0, 0, 0, 0, 0, 32)) + TWO_SEGMENTS[8:40],  # one is missing
        bytes((2, 0, 0, 0, 0, 0, 0, 64)) + TWO_SEGMENTS[8:40] * 2,  # one twice
        bytes((2, 0, 0, 0, 0, 0, 0, 64)) + bytes(64),
    ],
)
def test_an_answer_that_is_not_an_order_of_what_was_asked_is_none(answer: bytes) -> None:
    with pytest.raises(Retryable, match="recommended access order"):
        rao.parse_order(answer, 2)


@given(st.binary(max_size=300), st.integers(0, 8))
def test_no_answer_breaks_the_reading_of_it(answer: bytes, segments: int) -> None:
    try:
        order = rao.parse_order(answer, segments)
    except Retryable:
        return
    assert sorted(order) == list(range(segments))


def test_a_segment_of_one_object_would_be_a_binding_point_and_is_refused() -> None:
    with pytest.raises(ValueError, match="objects 5 to 5"):
        Segment(0, 5, 5)


def test_a_drive_that_knows_it_is_asked_and_one_that_does_not_is_left_alone(machine: FakeIo) -> None:
    library = mounted(machine)
    assert isinstance(library, Ordering)
    extents = [(10, 19), (40, 40), (25, 30)]
    assert library.recommended_order(DRIVE, extents) is None
    machine.recommends = 2730
    assert library.recommended_order(DRIVE, extents) == (1, 2, 0)
    assert machine.recommended[:32][16:32] == (40).to_bytes(8, "big") + (41).to_bytes(8, "big")
    machine.recommends = 2
    assert library.recommended_order(DRIVE, extents) is None, "it takes no more than two"
    sent = [line for line in machine.ran if " a4 1d " in line]
    assert len(sent) == 1, "nothing is sent to a drive that does not take it"


def test_nothing_mounted_has_no_order(machine: FakeIo) -> None:
    machine.recommends = 2730
    library = mounted(machine)
    library.unmount(DRIVE)
    assert library.recommended_order(DRIVE, [(1, 2), (5, 9)]) is None


# What the planner makes of it.


def backwards(extents: list[Extent]) -> tuple[int, ...]:
    return tuple(reversed(range(len(extents))))


def test_the_drive_orders_each_class_for_itself_and_only_more_than_three() -> None:
    stat = [read(pk, "A", at=pk, priority=Priority.STAT) for pk in (1, 2)]
    clinical = [read(pk, "A", at=pk) for pk in (3, 4, 5, 6)]
    unknown = read(7, "A")
    bulk = [read(pk, "A", at=pk, priority=Priority.BULK) for pk in (8, 9, 10, 11, 12)]
    asked: list[int] = []

    def ask(extents: object) -> tuple[int, ...]:
        found = list(extents)  # type: ignore[call-overload]
        asked.append(len(found))
        return backwards(found)

    order = recommended([*stat, *clinical, unknown, *bulk], ask)
    assert order == (1, 2, 6, 5, 4, 3, 7, 12, 11, 10, 9, 8)
    assert asked == [4, 5]
    assert recommended([*stat, *clinical[:3]], ask) is None
    assert asked == [4, 5], "nobody is asked about three"


@pytest.mark.parametrize("answer", [None, (), (0, 1, 2), (0, 1, 2, 2), (0, 1, 2, 4)])
def test_an_answer_that_is_no_order_leaves_ours(answer: tuple[int, ...] | None) -> None:
    assert recommended([read(pk, "A", at=pk) for pk in range(4)], lambda _: answer) is None
