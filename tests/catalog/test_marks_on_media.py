"""What the catalog has to say to media, and what it takes over from them, on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest
from catalog_rows import add_instance, add_name, add_packaged_study, add_series
from sqlalchemy import select

from hsm import marksfile
from hsm.catalog import chaincheck, deletions, marks, marksfacts, marksfound, restored
from hsm.catalog.engine import Catalog
from hsm.catalog.tables import Package
from hsm.errors import Corrupt
from hsm.marksfile import Deleted, Stand, StudyMarks

UID = "1.2.3"


def _file(catalog: Catalog) -> bytes:
    """What a volume that carries nothing yet would get."""
    with catalog.read() as session:
        way, to = restored.way(session), marksfacts.latest(session)
        assert way is not None
        stand = Stand("HSM", way, to, catalog.clock.now())
        studies = marksfacts.marked_since(session, 0, to)
        (data,) = marksfile.files(stand, marksfacts.of(session, studies))
    return data


def _learn(catalog: Catalog, stand: Stand, *said: StudyMarks) -> list[str]:
    with catalog.write() as session:
        return marksfound.learn(session, stand, said, "HSM001L8", catalog.clock.now(), "rebuild")


def test_what_is_said_comes_back_as_it_was_said_and_a_changed_byte_is_found(catalog: Catalog) -> None:
    now = catalog.clock.now()
    with catalog.write() as session:
        add_packaged_study(session, {"A": "verified"}, UID)
        key, digest, study_pk, package_pk = session.execute(
            select(Package.key, Package.digest, Package.study_pk, Package.pk)
        ).one()
        series_pk = add_series(session, study_pk, "1.2.3.1")
        add_instance(session, series_pk, add_name(session), "1.2.3.1.1", package_pk=package_pk)
        marks.tag(session, UID, now, "olga", add=["teaching"])
        deletions.delete(session, UID, "wrong", now + timedelta(days=30), now, "olga", approved_by="anna")
        marks.place_hold(session, UID, "court", now, "olga")
    data = _file(catalog)
    _, (said,) = marksfile.parse(data)
    assert said.deleted is not None and said.held is not None
    assert (said.deleted.by, said.deleted.approved_by, said.deleted.packages) == (
        "olga",
        "anna",
        {key: digest},
    )
    assert (said.held.reason, said.tags) == ("court", ("teaching",))
    for at in range(data.index(b"\n"), len(data), 7):
        with pytest.raises(Corrupt):
            marksfile.parse(data[:at] + bytes([data[at] ^ 0x11]) + data[at + 1 :])


def test_the_last_word_of_media_is_taken_over_once_and_what_is_said_here_beats_it(catalog: Catalog) -> None:
    now = catalog.clock.now()
    with catalog.write() as session:
        add_packaged_study(session, {"A": "written"}, UID)
        key, digest = session.execute(select(Package.key, Package.digest)).one()
    way = bytes(32)
    gone = Deleted(now, "olga", "", "wrong", now, False, now, {key: digest, "1.2.3.p0002.tar": way})
    old, new = Stand("HSM", way, 5, now), Stand("HSM", way, 9, now - timedelta(hours=1))
    assert _learn(catalog, new, StudyMarks(UID, gone)) == [UID]
    assert _learn(catalog, old, StudyMarks(UID)) == [], "by its number, whatever the clock says"
    assert _learn(catalog, new, StudyMarks(UID, gone)) == []
    with catalog.read() as session:
        (standing,) = deletions.trash(session, 9)
        assert (standing.made_by, standing.due_at) == ("olga", now + marksfound.GRACE)
        assert marksfound.names(marksfound.in_force(session, UID), "1.2.3.p0002.tar", way)
    _, (passed_on,) = marksfile.parse(_file(catalog))
    assert passed_on.deleted is not None
    assert passed_on.deleted.packages == gone.packages, "also of the package that nobody has found"
    with catalog.write() as session:
        deletions.undelete(session, UID, "it was right", catalog.clock.now(), "anna")
    assert _learn(catalog, Stand("HSM", way, 10, now), StudyMarks(UID, gone)) == []
    with catalog.read() as session:
        assert deletions.trash(session, 9) == []
        assert next(chaincheck.verify(session), None) is None
