"""The journal's chain: what it records, and that no tampering goes unseen."""

from __future__ import annotations

from hsm.catalog import journal
from hsm.catalog.engine import Catalog


def test_an_appended_record_is_found_in_the_history_of_its_subject(catalog: Catalog) -> None:
    with catalog.write() as session:
        number = journal.append(
            session, catalog.clock.now(), "alice", "retire", "volume", "T00001", {"why": "döst", "n": 1.5}
        )
        journal.append(session, catalog.clock.now(), "alice", "retire", "volume", "T00002", {})
    with catalog.read() as session:
        entries = journal.history(session, "T00001")
        assert list(journal.verify(session)) == []
    assert entries == [
        journal.Entry(
            number, catalog.clock.now(), "alice", "retire", "volume", "T00001", {"why": "döst", "n": 1.5}
        )
    ]
