"""Kinds of faults that chance seldom brings together with what feels them: brought together on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.chaos.chaos_admins import POLICIES
from tests.chaos.chaos_ledger import GOOD
from tests.chaos.chaos_network import LAPSED, SLOW_SECONDS

if TYPE_CHECKING:
    from tests.chaos.chaos_life import Life

FIRST = POLICIES[-2]
"""One copy on tape, one in a cold class."""
TRIES = 10


SELDOM = (
    "wrong cartridge brought",
    "said done, brought nothing",
    "refused by the operator",
    "not found by the operator",
    "called damaged by the operator",
    "byte flipped in a cold class",
    "S3 restore takes hours",
    LAPSED,
    "peer down",
)


def provoke(life: Life) -> None:
    """In a calm archive under the policy :data:`FIRST`: everything that takes a cartridge on a shelf, a cold
    class or a delivery. Afterwards the last of the policies is in force."""
    for how in ("wrong", "nothing", "refuse", "lost", "damaged"):
        _asked_for(life, how)
    _peer(life)
    _cold(life)
    text, goals = POLICIES[-1]
    life.world.use_policies(text)
    life.ledger.goals = goals


def _inject(life: Life, kind: str) -> None:
    assert life.faults.kinds[kind][1](), f"{kind} could not be done"
    life.around.effects.inject(kind)


def _away(life: Life) -> str:
    """A cartridge with good copies goes to a shelf."""
    copies = life.ledger.copies_now()
    good = {each.place.volume for each in copies if each.pool == "tape" and each.volume_state in GOOD}
    barcode = min(good & set(life.world.outside_drives()))
    life.world.custody.export(barcode, "B1", "alice")
    life.world.library.hand_remove(barcode)
    return barcode


def _asked_for(life: Life, how: str) -> None:
    """Somebody is asked for a cartridge and answers like this."""
    life.world.custody.unmount_all()
    barcode = _away(life)
    life.world.volumes.verify(barcode, "alice")
    life.settle()
    life.note(life.people.says(barcode, how))
    life.people.store()
    life.world.library.hand_insert(barcode)
    life.world.take_inventory()
    life.around.clock.advance(61)
    life.settle()


def _peer(life: Life) -> None:
    _inject(life, "peer down")
    (down,) = life.world.destinations_down
    for _ in range(TRIES):  # one who cancels, or a study that is hidden, asks the peer nothing
        life.people.move(patience=0, to=down)
        life.around.clock.advance(31)
        life.settle()
        if life.around.effects.felt["peer down"]:
            break
    life.around.clock.advance(61)
    life.settle()


def _cold(life: Life) -> None:
    """All cartridges are away: what is wanted is asked of the cold class, and takes hours, and is damaged."""
    life.around.clock.advance(4000)
    life.settle()
    life.world.custody.unmount_all()
    for barcode in life.world.outside_drives():
        if life.faults._label(barcode):
            life.world.custody.export(barcode, "B1", "alice")
            life.world.library.hand_remove(barcode)
    _inject(life, "S3 restore takes hours")
    while life.faults._flip_file("vault"):
        life.around.effects.inject("byte flipped in a cold class")
    waits = [life.world.retrieve(study) for study in life.ledger.studies()]
    life.settle()
    _inject(life, LAPSED)
    for seconds in (3600, SLOW_SECONDS, 3600):
        life.around.clock.advance(seconds)
        life.settle()
    for wait in waits:
        wait.close()
    for barcode in life.world.library.shelf():
        life.world.library.hand_insert(barcode)
    life.world.take_inventory()
