"""Logins with tokens in the journal: from each place one a shift, and no flood."""

from __future__ import annotations

from pathlib import Path

import pytest

from hsm import tokens
from hsm.api import arrivals
from hsm.api.doors import Doors
from hsm.api.tcp import TcpPeer
from hsm.catalog import journal
from hsm.catalog.access import AccessLog
from hsm.catalog.engine import Catalog
from hsm.catalog.tables import Journal
from hsm.clock import ManualClock
from hsm.tokens import Token, Tokens


class Door:
    """The door for other machines, with a token for each of two people, and what it puts on record."""

    def __init__(self, catalog: Catalog, clock: ManualClock, folder: Path) -> None:
        self._catalog = catalog
        self._log = AccessLog(catalog)
        self._tokens = {name: tokens.new_token() for name in ("rita", "eve")}
        for name, made in self._tokens.items():
            given = Token(name, name, "read-only", tokens.digest_of(made), clock.now(), None)
            tokens.add(folder / "tokens.json", given)
        known = Tokens(folder / "tokens.json")
        self.doors = Doors(monotonic=clock.monotonic, tokens=known, clock=clock, arrived=self._log.note)

    def come(self, name: str, address: str) -> None:
        self.doors.remote(TcpPeer(address, 40_000), f"Bearer {self._tokens[name]}")

    def record(self) -> list[journal.Entry]:
        self._log.flush()
        with self._catalog.read() as session:
            return journal.read(session, [Journal.verb == "came in"])


@pytest.fixture
def door(sqlite_catalog: Catalog, clock: ManualClock, tmp_path: Path) -> Door:
    return Door(sqlite_catalog, clock, tmp_path)


def test_a_token_from_very_many_addresses_writes_so_many_records_and_the_rest_is_counted(
    door: Door, clock: ManualClock
) -> None:
    for number in range(1500):
        door.come("eve", f"2001:db8::{number:x}")
    door.come("rita", "10.0.0.7")
    written = door.record()
    eve = [entry for entry in written if entry.actor.startswith("eve")]
    assert len(eve) == arrivals.NAMED_A_MINUTE + 1
    assert eve[-1].detail == {"addresses": "many", "times": 1500 - arrivals.NAMED_A_MINUTE}
    assert [entry.detail for entry in written if entry.actor.startswith("rita")] == [{"address": "10.0.0.7"}]
    clock.advance(60)
    for number in range(1500, 1550):
        door.come("eve", f"2001:db8::{number:x}")
    door.come("rita", "10.0.0.7")  # whom eve's addresses have not made forgotten
    assert len(door.record()) == len(written) + arrivals.NAMED_A_MINUTE + 1


def test_a_login_is_on_record_once_a_shift_for_each_address(door: Door, clock: ManualClock) -> None:
    seen = []
    for _ in range(3):
        for _ in range(5):
            door.come("rita", "10.0.0.7")
            door.come("rita", "10.0.0.8")
        seen.append([entry.detail["address"] for entry in door.record()])
        clock.advance(arrivals.SHIFT_SECONDS / 2)
    assert seen == [["10.0.0.7", "10.0.0.8"]] * 2 + [["10.0.0.7", "10.0.0.8"] * 2]


def test_places_and_tokens_are_remembered_up_to_a_number(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "PLACES_MAX", 4)
    monkeypatch.setattr(arrivals, "TOKENS_MAX", 3)
    known = arrivals.Arrivals(clock.monotonic)
    for token in range(9):
        for address in range(9):
            assert known.told_of(f"t{token}", f"10.0.0.{address}")
    assert [len(places) for places in known._places.values()] == [4, 4, 4]
