"""What every Store that carries notes must do. The stores are in conftest.py."""

from __future__ import annotations

import io
from typing import Any

import pytest

from drivers.base import Store
from drivers.errors import Permanent
from drivers.notes import NOTE_CHARACTERS_MAX, NOTES_KEPT, Annotated, annotated, joined


@pytest.fixture
def carrier(noted: Any) -> Annotated:
    found = annotated(noted.store)
    assert found is not None
    return found


def put(store: Store, key: str) -> None:
    store.put(key, io.BytesIO(b"bytes"), 5, None)


def reopened(harness: Any) -> tuple[str, ...]:
    found = annotated(harness.crash())
    assert found is not None
    return found.notes()


def test_a_note_is_on_the_medium_with_the_next_flush_and_is_found_after_a_crash(
    noted: Any, carrier: Annotated
) -> None:
    assert carrier.notes() == ()
    put(noted.store, "a")
    carrier.annotate("dropped, for another one comes before the flush")
    carrier.annotate('{"one": "first"}')
    assert carrier.notes() == ()
    noted.store.flush()
    assert carrier.notes() == ('{"one": "first"}',)
    put(noted.store, "b")
    noted.store.flush()  # without a note nothing is repeated
    put(noted.store, "c")
    carrier.annotate("second")
    noted.store.flush()
    assert reopened(noted) == ('{"one": "first"}', "second")
    assert sorted(each.key for each in noted.store.list()) == ["a", "b", "c"]


def test_a_note_that_was_not_flushed_is_on_no_medium(noted: Any, carrier: Annotated) -> None:
    put(noted.store, "a")
    noted.store.flush()
    put(noted.store, "b")
    carrier.annotate("never flushed")
    assert reopened(noted) == ()


def test_what_is_no_line_of_ascii_is_refused(carrier: Annotated) -> None:
    for note in ("", "two\nlines", "Grüße", "x" * (NOTE_CHARACTERS_MAX + 1)):
        with pytest.raises(Permanent, match="expected one line of printable ASCII"):
            carrier.annotate(note)


def test_of_very_many_notes_the_last_are_kept() -> None:
    kept: tuple[str, ...] = ()
    for number in range(NOTES_KEPT + 5):
        kept = joined(kept, f"{number}")
    assert kept == tuple(f"{number}" for number in range(5, NOTES_KEPT + 5))
