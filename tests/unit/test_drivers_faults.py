from __future__ import annotations

import threading
from pathlib import Path

import pytest

from drivers.errors import Corrupt, DriverError, NoSpace, OperatorNeeded, Permanent, Retryable
from drivers.simulated.faults import Event, Fault, FaultScript, dead_drive, door_open, matches, strike


def failures(fault: Fault, events: int) -> list[int]:
    """Which of so many equal events fail, counted from 1."""
    left: tuple[Fault, ...] = (fault,)
    failed = []
    for number in range(1, events + 1):
        left, struck = strike(left, Event("put", 256, "HSM001L8", "k"))
        if struck:
            failed.append(number)
    return failed


@pytest.mark.parametrize(
    ("nth", "times", "expected"),
    [(1, 1, [1]), (3, 1, [3]), (2, 3, [2, 3, 4]), (4, None, [4, 5, 6]), (9, 1, [])],
)
def test_the_nth_and_the_following_ones_fail(nth: int, times: int | None, expected: list[int]) -> None:
    assert failures(Fault("put", "retryable", nth=nth, times=times), 6) == expected


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("put", "corrupt"), True),
        (Fault("*", "corrupt"), True),
        (Fault("get", "corrupt"), False),
        (Fault("put", "corrupt", drive=256), True),
        (Fault("put", "corrupt", drive=257), False),
        (Fault("put", "corrupt", barcode="HSM001L8"), True),
        (Fault("put", "corrupt", barcode="HSM002L8"), False),
        (Fault("put", "corrupt", key="k"), True),
        (Fault("put", "corrupt", key="l"), False),
        (dead_drive(256), True),
        (dead_drive(257), False),
        (door_open(), False),
    ],
)
def test_a_fault_is_narrowed_by_what_it_names(fault: Fault, expected: bool) -> None:
    assert matches(fault, Event("put", 256, "HSM001L8", "k")) is expected


def test_an_event_of_another_kind_uses_nothing_up() -> None:
    fault = Fault("put", "retryable", nth=2)
    assert strike((fault,), Event("get")) == ((fault,), None)


@pytest.mark.parametrize(
    "values",
    [
        {"operation": "explode", "error": "corrupt"},
        {"operation": "put", "error": "odd"},
        {"operation": "put", "error": "corrupt", "nth": 0},
        {"operation": "put", "error": "corrupt", "times": 0},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"expected|count"):
        Fault(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("retryable", Retryable),
        ("permanent", Permanent),
        ("operator needed", OperatorNeeded),
        ("corrupt", Corrupt),
        ("no space", NoSpace),
    ],
)
def test_a_script_raises_the_scripted_kind_and_says_where(
    tmp_path: Path, error: str, kind: type[DriverError]
) -> None:
    script = FaultScript(tmp_path)
    script.add(Fault("get", error, message="the head is dirty"))
    with pytest.raises(kind, match="get k of HSM001L8 in drive 256: the head is dirty") as raised:
        script.check(Event("get", 256, "HSM001L8", "k"))
    assert type(raised.value) is kind
    script.check(Event("get", 256, "HSM001L8", "k"))


def test_a_script_survives_a_restart_and_is_shared(tmp_path: Path) -> None:
    FaultScript(tmp_path).add(Fault("put", "retryable", nth=3), Fault("move", "permanent"))
    one, other = FaultScript(tmp_path), FaultScript(tmp_path)
    one.check(Event("put"))
    other.check(Event("put"))
    with pytest.raises(Retryable):
        FaultScript(tmp_path).check(Event("put"))
    assert one.faults() == (Fault("move", "permanent"),)
    other.clear()
    one.check(Event("move"))
    one.clear()


def test_of_threads_that_meet_a_single_fault_one_is_struck(tmp_path: Path) -> None:
    script = FaultScript(tmp_path)
    script.add(Fault("put", "retryable", times=2))
    struck: list[int] = []

    def work(number: int) -> None:
        for _ in range(5):
            try:
                script.check(Event("put"))
            except Retryable:
                struck.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(struck) == 2
