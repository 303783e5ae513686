"""Drives, counters, ends of volumes and repacks in SQL, on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from hsm.blame import Pair
from hsm.catalog import (
    chaincheck,
    check,
    draining,
    journal,
    media,
    queuelooks,
    requesting,
    usage,
    volumelife,
)
from hsm.catalog.engine import Catalog
from hsm.catalog.usage import Tally
from hsm.errors import Refused
from hsm.states import RequestKind, VolumeState
from tests.catalog.catalog_rows import add_packaged_study, add_volume

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_counters_of_a_pair_add_up_and_a_good_session_clears_what_failed(catalog: Catalog) -> None:
    with catalog.write() as session:
        tape = add_volume(session, "T1")
        usage.note(session, "lib", 256, tape, Tally(writes=2, bytes_written=5 << 40), NOW)
        usage.note(session, "lib", 256, tape, Tally(errors=["broken"]), NOW + timedelta(hours=1))
        usage.note(session, "lib", 257, tape, Tally(reads=1), NOW)
    with catalog.write() as session:
        assert usage.pairs(session) == [
            Pair(("lib", 256), "T1", 2, 1, 1),
            Pair(("lib", 257), "T1", 1, 0, 0),
        ]
        late = usage.pairs(session, NOW + timedelta(hours=2))
        assert [pair.failing for pair in late] == [0, 0], "what failed long ago fails no longer"
        usage.note(session, "lib", 256, tape, Tally(writes=1, failed=True), NOW)
        assert usage.pairs(session)[0].failing == 1, "it was not good"
        usage.note(session, "lib", 256, tape, Tally(writes=1), NOW)
        assert usage.pairs(session)[0].failing == 0
        (first, _) = sorted(usage.uses(session, library="lib", limit=9), key=lambda use: str(use["drive"]))
        assert (first["writes"], first["bytes_written"], first["last_error"]) == (4, 5 << 40, "broken")
        assert usage.uses(session, volume="T2", limit=9) == []


def test_a_drive_goes_out_of_service_once_and_is_forgiven_when_it_comes_back(catalog: Catalog) -> None:
    with catalog.write() as session:
        tape = add_volume(session, "T1")
        usage.note(session, "lib", 256, tape, Tally(errors=["broken"]), NOW)
        assert usage.set_service(session, "lib", 256, False, "noisy", NOW, "alice")
        assert not usage.set_service(session, "lib", 256, False, "again", NOW, "bob")
        assert usage.out_of_service(session) == {("lib", 256): "noisy"}
        assert usage.set_service(session, "lib", 256, True, "mended", NOW, "bob")
        assert usage.out_of_service(session) == {}
        assert usage.pairs(session)[0].failing == 0
        assert [entry.verb for entry in journal.history(session, "lib/256")] == [
            "out of service",
            "in service",
        ]
        assert list(chaincheck.verify(session)) == []


def test_a_volume_ends_only_when_nothing_counts_on_it(catalog: Catalog) -> None:
    with catalog.write() as session:
        add_packaged_study(session, {"A": "verified", "B": "verified"})
        session.execute(text("UPDATE volume SET removable = :yes"), {"yes": True})
        with pytest.raises(Refused, match="1 verified"):
            volumelife.end(session, "A", VolumeState.RECYCLED, NOW, "alice", "old")
        session.execute(text("UPDATE copy SET state = 'releasing' WHERE volume_pk = 1"))
        session.execute(text("UPDATE copy SET state = 'released' WHERE volume_pk = 1"))
        name = media.volume_by_key(session, 1).name
        volumelife.end(session, name, VolumeState.RECYCLED, NOW, "alice", "old")
        assert media.volume(session, name).pool is None
        assert not [each for each in check.check(session) if each.check == "volume-without-pool"]


def test_losing_a_volume_tells_which_packages_nobody_can_read(catalog: Catalog) -> None:
    with catalog.write() as session:
        add_packaged_study(session, {"A": "verified", "B": "verified"})
        volumes = {each.name: each.pk for each in media.volumes(session)}
        media.move_volume(session, volumes["A"], VolumeState.LOST, NOW, "alice", "burnt")
        (gone,) = volumelife.lose_copies(session, volumes["A"], NOW, "alice", "burnt", 10)
        assert gone.readable
        assert volumelife.lose_copies(session, volumes["A"], NOW, "alice", "burnt", 10) == []
        media.move_volume(session, volumes["B"], VolumeState.LOST, NOW, "alice", "burnt too")
        (gone,) = volumelife.lose_copies(session, volumes["B"], NOW, "alice", "burnt", 10)
        assert not gone.readable
        media.found_again(session, volumes["B"], NOW, "custody")
        assert volumelife.lost_again_found(session, volumes["B"], NOW, "custody") == 1
        assert media.volume(session, "B").state is VolumeState.SUSPECT


def test_repack_requests_are_counted_for_their_volume_only(catalog: Catalog) -> None:
    with catalog.write() as session:
        add_packaged_study(session, {"A_1": "verified", "AX1": "verified"})
        volumes = {each.name: each.pk for each in media.volumes(session)}
        for key in ("repack:A_1:k", "repack:AX1:k", "copy:k:a:0"):
            requesting.enqueue(
                session, NOW, "t", RequestKind.COPY, key, priority=30, reason="", package_pk=1, pool="tape"
            )
        assert draining.repack_requests(session, volumes["A_1"], "A_1") == {"queued": 1}
        assert draining.pending(session, [1]) == {(1, "tape"): 2}
        assert [each.key for each in draining.live_requests(session, volumes["A_1"], "A_1")] == [
            "repack:A_1:k"
        ]
        assert set(draining.live_bytes(session)) == set(volumes.values())
        assert queuelooks.latest(session, ["copy:k:a:0", "nothing"]).keys() == {"copy:k:a:0"}
