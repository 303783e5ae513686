"""Gets of the nas driver come through memory that the store shares with one helper."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.base import CHUNK_BYTES
from drivers.errors import Corrupt, NotFound
from drivers.nas import helpers as helping
from drivers.nas.helpers import Helpers, Limits, Started, start_helper
from drivers.nas.segment import SLOTS, Segment, filled, make
from drivers.nas.store import NasStore, Settings

DATA = random.Random(5).randbytes((2 * SLOTS + 3) * CHUNK_BYTES + 17)


class Place:
    """A store on a folder, and the helpers that it started."""

    def __init__(self, folder: Path) -> None:
        self.started: list[Started] = []
        self.store = NasStore(Settings(str(folder)), Helpers(Limits(), self._start))

    def _start(self) -> Started:
        self.started.append(start_helper())
        return self.started[-1]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    made.store.put("k", io.BytesIO(DATA), len(DATA), None)
    yield made
    made.store.close()


def test_pieces_that_are_kept_do_not_change_when_their_slots_are_filled_again(place: Place) -> None:
    assert place.started[0].segment is not None
    for offset, length in ((0, None), (3, len(DATA) - 5), (CHUNK_BYTES - 1, 2), (len(DATA), 0)):
        end = len(DATA) if length is None else offset + length
        pieces = list(place.store.get("k", offset, length))
        assert b"".join(pieces) == DATA[offset:end]
    with pytest.raises(Corrupt):
        list(place.store.get("k", 0, len(DATA) + 1))
    with pytest.raises(NotFound):
        list(place.store.get("nothing"))
    place.store.put("l", io.BytesIO(DATA), len(DATA), None)
    assert b"".join(place.store.get("l")) == DATA
    assert len(place.started) == 1


def test_a_get_that_is_given_up_takes_its_helper_and_its_memory_with_it(place: Place) -> None:
    pieces = place.store.get("k")
    assert next(pieces) == DATA[:CHUNK_BYTES]
    pieces.close()  # type: ignore[attr-defined]
    first = place.started[0]
    first.process.wait(10)
    with pytest.raises(ValueError, match="closed"):
        assert first.segment and first.segment.slot(0)
    assert b"".join(place.store.get("k")) == DATA
    assert len(place.started) == 2
    assert place.started[1].segment is not first.segment


def test_without_such_memory_the_bytes_come_through_the_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helping, "make", lambda: None)
    place = Place(tmp_path)
    place.store.put("k", io.BytesIO(DATA), len(DATA), None)
    assert place.started[0].segment is None
    assert b"".join(place.store.get("k")) == DATA
    place.store.close()


def test_the_memory_cannot_be_made_smaller_under_who_has_mapped_it() -> None:
    made = make()
    assert made is not None
    descriptor, segment = made
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 0)
    os.close(descriptor)
    for wrong in (filled(SLOTS, 1), filled(0, CHUNK_BYTES + 1)):
        with pytest.raises(ValueError, match="slot"):
            segment.taken(wrong)
    assert isinstance(segment, Segment)
    segment.close()
