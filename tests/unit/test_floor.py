"""What the drives are doing, as the dispatcher, the sessions and whoever asks see it."""

from __future__ import annotations

import pytest

from hsm.claims import Drives, InUse
from hsm.floor import Floor
from hsm.model import Priority
from hsm.planner import plan
from tests.unit.test_planner import NOW, drive, read, volume

HERE = ("lib", 0)
WORK = (read(1, "A", priority=Priority.BULK), read(2, "A"), read(3, "A", priority=Priority.MIGRATION))


def floor() -> Floor:
    found = Floor()
    found.saw([drive(0), drive(1, holds="B")])
    found.begin(HERE, "A", WORK)
    return found


def test_a_session_shows_in_its_drive_with_the_most_urgent_of_what_it_has_left() -> None:
    here = floor()
    first, other = here.drives
    assert (first.holds, first.busy, first.priority) == ("A", True, Priority.ROUTINE)
    assert (other.holds, other.busy, other.priority) == ("B", False, None)
    assert here.goes_on(HERE, (2, 1, 3)) is None, "it has done nothing yet"
    running = here.goes_on(HERE, (1, 3))
    assert running is not None
    assert [each.request_pk for each in running.left] == [1, 3]
    assert running.drive.priority == Priority.BULK
    assert here.running == (running,)


def test_what_a_drive_still_has_while_another_one_is_brought_is_nobody_elses_yet() -> None:
    here = Floor()
    here.saw([drive(0, holds="B"), drive(1)])
    here.begin(HERE, "A", WORK)
    first, other = here.drives
    assert (first.holds, first.leaving) == ("A", "B")
    wanted, volumes = [read(7, "B")], [volume("A"), volume("B")]
    assert plan(wanted, volumes, (first, other), NOW).sessions == (), "it is not there to be had"
    here.saw([drive(0, holds="A"), drive(1)])
    (session,) = plan(wanted, volumes, here.drives, NOW).sessions
    assert (session.drive.address, session.barcode) == (1, "B"), "it is in its slot by now"
    here.end(HERE, None)
    assert all(each.leaving is None for each in here.drives)


def test_a_volume_that_a_drive_was_claimed_for_goes_into_no_other() -> None:
    drives = Drives()
    assert drives.claim("lib", 0, "A")
    assert not drives.claim("lib", 1, "A")
    with pytest.raises(InUse, match="A is in use in drive 0 of lib"), drives.claimed("lib", 1, "A"):
        pass
    assert drives.claim("lib", 1)
    assert drives.claim("lib", 2), "two that are claimed for no volume"
    drives.free("lib", 0)
    drives.free("lib", 1)
    assert drives.claim("lib", 1, "A")


def test_a_drive_remembers_what_its_last_session_was_begun_for() -> None:
    here = floor()
    here.end(HERE, Priority.STAT)
    assert (here.drives[0].busy, here.drives[0].priority) == (False, Priority.STAT)
    assert here.running == ()
    assert here.goes_on(HERE, (1,)) is None, "nobody knows of it any more"


def test_the_same_queue_is_looked_at_closely_once_and_again_after_a_while() -> None:
    here = floor()
    assert not here.knows(HERE, (1, 7), 0.0, 10)
    assert here.knows(HERE, (1, 7), 9.0, 10)
    assert not here.knows(HERE, (2, 8), 9.5, 10), "something new is queued"
    assert not here.knows(HERE, (2, 8), 19.5, 10), "drives come and go"
    here.begin(HERE, "A", WORK)
    assert not here.knows(HERE, (2, 8), 20.0, 10), "another session looks for itself"
