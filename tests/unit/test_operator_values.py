"""What the operators' screen makes of the API's answers."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from cli.watch.values import by_urgency, picture, prompt

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def mount(barcode: str = "T00001L8", **more: Any) -> dict[str, Any]:
    """A prompt as the API tells it."""
    given = {
        "id": 1, "barcode": barcode, "state": "open", "pool": "tape", "library": "lib1", "where": "shelf A3",
        "stands": "A3", "site": "", "priority": "routine", "created_at": NOW.isoformat(),
        "waiting_seconds": 60, "acked_by": "", "acked_at": None, "into": "", "deadline": None, "note": "",
        "requests": 1, "bytes": 1000, "waiters": [], "alternatives": [],
    }  # fmt: skip
    return given | more


def test_stat_goes_first_then_the_nearest_deadline_then_the_oldest() -> None:
    soon, later = (NOW + timedelta(minutes=minutes) for minutes in (5, 50))
    wanted = [
        mount("STAT", priority="stat"),
        mount("SOON", deadline=soon.isoformat()),
        mount("LATER", deadline=later.isoformat(), created_at=(NOW - timedelta(days=1)).isoformat()),
        mount("OLD", created_at=(NOW - timedelta(hours=2)).isoformat()),
        mount("NEW"),
        mount("BETWEEN", priority="15", deadline=soon.isoformat()),
        mount("BULK", priority="bulk", created_at=(NOW - timedelta(days=9)).isoformat()),
    ]
    shuffled = random.Random(4).sample(wanted, len(wanted))
    found = [each.barcode for each in by_urgency([prompt(each) for each in shuffled])]
    assert found == ["STAT", "SOON", "LATER", "OLD", "NEW", "BETWEEN", "BULK"]


def test_a_prompt_that_was_answered_is_not_shown() -> None:
    seen = picture(NOW, [mount("A"), mount("B", state="done")], status={"mounts_open": 1})
    assert [each.barcode for each in seen.prompts] == ["A"]
    assert seen.find("b") is None


def test_a_barcode_is_found_whatever_its_case() -> None:
    seen = picture(NOW, [mount("T00001L8")], status={})
    assert seen.find("t00001l8") is seen.prompts[0]


def test_what_is_in_a_mail_slot_with_a_shelf_of_its_own_goes_back_unless_it_is_wanted() -> None:
    mail = [
        {"name": "T00001L8", "library": "lib1", "element": 101, "shelf": "A3"},
        {"name": "T00002L8", "library": "lib1", "element": 102, "shelf": "B1"},
        {"name": "T00003L8", "library": "lib1", "element": 103, "shelf": ""},
    ]
    seen = picture(NOW, [mount("T00001L8")], status={}, mail=mail)
    assert [each.barcode for each in seen.trips] == ["T00002L8"]
    assert len(seen.mail) == 3


def test_nobody_is_sent_to_take_away_what_something_waits_for() -> None:
    mail = [{"name": "T00002L8", "library": "lib1", "element": 102, "shelf": "B1"}]
    assert picture(NOW, [], status={}, mail=mail).trip("T00002L8") is not None
    assert picture(NOW, [], status={}, mail=mail, busy=frozenset({"T00002L8"})).trips == ()
    assert picture(NOW, [], status={}, mail=mail, busy=None).trips == (), "nobody knows: then rather not"


def test_texts_from_outside_cannot_steer_the_terminal_and_have_a_limit() -> None:
    evil = "\x1b[2J\x07" + "x" * 5000
    seen = prompt(mount(evil, where=evil, waiters=[{"who": evil, "since": None}], note=evil))
    for shown in (seen.barcode, seen.where, seen.waiters[0].who, seen.note):
        assert shown.isprintable()
        assert len(shown) <= 200


def test_a_walker_is_known_by_name_whatever_login_the_journal_adds() -> None:
    seen = prompt(mount(acked_by="anna (as root)"))
    assert seen.is_mine("anna")
    assert not seen.is_mine("ann")
    assert not seen.is_mine("")
    assert seen.walker == "anna"
