"""The journal streamed: in order, each record at least once, whatever happens to sink and daemon."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import text

from hsm.catalog import chainread, journal
from hsm.catalog.chaincheck import Problem
from hsm.catalog.chainread import Link
from hsm.catalog.engine import Catalog
from hsm.trail.file import FileSink, Line, files, read
from hsm.trail.shipper import BATCH, Shipper
from hsm.trail.sink import BEGINNING, NotTaken, Place, Whose

MIB = 1 << 20


def append(catalog: Catalog, count: int = 1, note: str = "") -> None:
    with catalog.write() as session:
        for number in range(count):
            at = catalog.clock.now()
            journal.append(session, at, "alice", "retire", "volume", f"T{number}", {"note": note, "ü": "張"})


def ship(catalog: Catalog, path: Path, keep: int | None = None, bytes_max: int = MIB) -> Shipper:
    """A daemon's life: everything is sent."""
    sink = FileSink(path, bytes_max, keep)
    shipper = Shipper(catalog, sink)
    while shipper.step() == BATCH:
        pass
    sink.close()
    return shipper


def lines(path: Path) -> list[Line]:
    found = list(read(path))
    assert [each for each in found if isinstance(each, Problem)] == []
    return [each for each in found if isinstance(each, Line)]


def heads(catalog: Catalog) -> list[tuple[int, bytes]]:
    with catalog.read() as session:
        return list(chainread.digests(session, 1))


def test_a_file_has_every_record_once_and_in_order_over_restarts(
    sqlite_catalog: Catalog, tmp_path: Path
) -> None:
    path = tmp_path / "audit" / "journal.jsonl"
    append(sqlite_catalog, BATCH + 5)
    ship(sqlite_catalog, path)
    append(sqlite_catalog, 3)
    ship(sqlite_catalog, path)
    assert [(each.seq, each.digest) for each in lines(path)] == heads(sqlite_catalog)
    said = json.loads(path.read_text().splitlines()[-1])
    assert said["record"][2:6] == ["alice", "retire", "volume", "T2"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_line_that_a_crash_has_torn_is_written_again(sqlite_catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    append(sqlite_catalog, 3)
    ship(sqlite_catalog, path)
    os.truncate(path, path.stat().st_size - 7)
    ship(sqlite_catalog, path)
    assert [(each.seq, each.digest) for each in lines(path)] == heads(sqlite_catalog)


def test_full_files_are_kept_as_many_as_wanted_and_the_stream_goes_on(
    sqlite_catalog: Catalog, tmp_path: Path
) -> None:
    path = tmp_path / "journal.jsonl"
    for _ in range(6):
        append(sqlite_catalog, 100, note="x" * 9000)
        ship(sqlite_catalog, path, keep=2)
    names = [each.name for each in files(path)]
    assert len(names) == 3
    assert names[-1] == "journal.jsonl"
    assert all(each.stat().st_size < 3 * MIB for each in files(path))
    kept = lines(path)
    assert (kept[0].seq, kept[-1].seq) == (int(names[0].split(".")[1].split("-")[0]), 600)
    os.unlink(path)  # a crash between the renaming and the new file
    append(sqlite_catalog)
    ship(sqlite_catalog, path, keep=2)
    assert lines(path)[-1].seq == 601


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (lambda text: text.replace('"alice"', '"carol"', 1), "record 1 was altered"),
        (lambda text: "".join(text.splitlines(True)[:1] + text.splitlines(True)[2:]), "does not come next"),
        (lambda text: "".join(sorted(text.splitlines(True), reverse=True)), "does not come next"),
        (lambda text: "hello\n" + text, "is no record"),
    ],
)
def test_a_file_that_was_tampered_with_says_so_by_itself(
    sqlite_catalog: Catalog, tmp_path: Path, tamper: object, said: str
) -> None:
    path = tmp_path / "journal.jsonl"
    append(sqlite_catalog, 4)
    ship(sqlite_catalog, path)
    path.write_text(tamper(path.read_text()))  # type: ignore[operator]
    problems = [each.message for each in read(path) if isinstance(each, Problem)]
    assert any(said in each for each in problems), problems


def test_a_stranger_s_file_is_not_written_to(sqlite_catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes\n")
    append(sqlite_catalog)
    shipper = ship(sqlite_catalog, path)
    assert "its last line is no record" in shipper.problems()[0]
    assert path.read_text() == "my notes\n"


def test_a_file_that_was_moved_away_begins_anew_while_the_daemon_runs(
    sqlite_catalog: Catalog, tmp_path: Path
) -> None:
    path = tmp_path / "journal.jsonl"
    append(sqlite_catalog, 2)
    shipper = Shipper(sqlite_catalog, FileSink(path, MIB, None))
    shipper.step()
    path.rename(tmp_path / "moved")
    append(sqlite_catalog)
    assert shipper.step() == 0
    assert shipper.step() == 3
    assert shipper.problems() == []


class Flaky:
    """A sink that fails when it is told to, and may have taken what it said it has not."""

    name = "the sink"

    def __init__(self) -> None:
        self.got: list[int] = []
        self.there = BEGINNING
        self.broken = ""
        self.loses = False

    def begin(self) -> Place:
        if self.broken:
            raise NotTaken(self.broken)
        return self.there

    def take(self, links: Sequence[Link]) -> None:
        if self.broken:
            self.got += [links[0].entry.seq]  # half of it went
            raise NotTaken(self.broken)
        self.got += [each.entry.seq for each in links]
        self.there = Place(links[-1].entry.seq, links[-1].digest)

    def idle(self) -> None:
        if self.loses:
            self.loses = False
            self.there = BEGINNING
            raise NotTaken("it was restarted")

    def whose(self) -> Whose:
        return Whose.OURS

    def not_taken(self) -> None: ...

    def abort(self) -> None: ...

    def close(self) -> None: ...


def test_what_cannot_be_sent_is_counted_told_and_sent_later(catalog: Catalog) -> None:
    sink = Flaky()
    shipper = Shipper(catalog, sink)
    append(catalog, 3)
    assert shipper.step() == 3
    sink.broken = "nobody answers"
    append(catalog, 2)
    for _ in range(3):
        assert shipper.step() == 0
    (said,) = shipper.problems()
    assert "2 records of it wait: the sink: nobody answers" in said
    assert (shipper.standing().sent, shipper.standing().waiting) == (3, 2)
    sink.broken = ""
    assert shipper.step() == 2
    assert shipper.problems() == []
    sink.loses = True
    assert shipper.step() == 0
    assert shipper.step() == 5, "from where the sink has it for good: at least once"
    seen = dict.fromkeys(sink.got)
    assert list(seen) == [1, 2, 3, 4, 5]


def test_a_journal_that_was_written_anew_is_not_streamed_on_and_is_told(catalog: Catalog) -> None:
    sink = Flaky()
    shipper = Shipper(catalog, sink)
    append(catalog, 3)
    shipper.step()
    with catalog.write() as session:
        if catalog.engine.dialect.name == "sqlite":
            session.execute(text("DROP TRIGGER journal_update"))
        else:
            session.execute(text("ALTER TABLE journal DISABLE TRIGGER USER"))
        digest = (
            "zeroblob(32)" if catalog.engine.dialect.name == "sqlite" else "decode(repeat('00', 32), 'hex')"
        )
        session.execute(text(f"UPDATE journal SET digest = {digest} WHERE seq = 3"))
    append(catalog)
    assert shipper.step() == 0
    assert "written anew" in shipper.problems()[0]
    assert sink.got == [1, 2, 3]


@pytest.mark.campaign
def test_a_stop_sends_what_is_left_and_a_sink_that_hangs_does_not_hold_it_up(
    sqlite_catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hsm.trail.shipper.POLL_SECONDS", 0.01)
    path = tmp_path / "journal.jsonl"
    shipper = Shipper(sqlite_catalog, FileSink(path, MIB, None))
    shipper.start()
    append(sqlite_catalog, 2 * BATCH + 1)
    shipper.stop()
    assert lines(path)[-1].seq == 2 * BATCH + 1
