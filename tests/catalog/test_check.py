"""`hsm catalog check`: a sound catalog has no findings, and each lie in it is found and named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from catalog_rows import (
    AT,
    add_copy,
    add_instance,
    add_name,
    add_package,
    add_patient,
    add_request,
    add_series,
    add_study,
    add_volume,
)
from sqlalchemy import event, select, text, update
from sqlalchemy.orm import Session

from hsm.catalog import mend, placements, words
from hsm.catalog.check import _CHECKS, Finding, check
from hsm.catalog.engine import Catalog
from hsm.catalog.tables import MountRequest, Study


def _sound(session: Session) -> None:
    """A study of two series: one sealed, with a copy on each of two tapes, one not; and work on it."""
    study_pk = add_study(
        session,
        add_patient(session, "P1"),
        "1.2.3",
        n_series=2,
        n_instances=3,
        n_bytes=60,
        unsealed=1,
        packages=1,
        modalities="\\CT\\SR\\",
    )
    name_pk = add_name(session)
    package_pk = add_package(session, study_pk, n_instances=2)
    ct = add_series(session, study_pk, "1.2.3.1", "CT", 2)
    sr = add_series(session, study_pk, "1.2.3.2", "SR", 1)
    add_instance(session, ct, name_pk, "1.2.3.1.1", package_pk=package_pk, size=20)
    second = add_instance(session, ct, name_pk, "1.2.3.1.2", package_pk=package_pk, size=20)
    session.execute(text('UPDATE instance SET "offset" = 2048 WHERE pk = :pk'), {"pk": second})
    add_instance(session, sr, name_pk, "1.2.3.2.1", size=20)
    for element, tape in enumerate(("A", "B", "C"), start=1):
        volume_pk = add_volume(session, tape)
        session.execute(
            text("UPDATE volume SET element = :element, used = 10240 WHERE pk = :pk"),
            {"element": element, "pk": volume_pk},
        )
        add_copy(session, package_pk, volume_pk, "released" if tape == "C" else "verified")
    add_request(session, "seal:1.2.3", kind="seal", study_pk=study_pk)
    add_request(session, "recall:1", "active", package_pk=package_pk, worker="w", started_at=AT)
    add_request(session, "copy:1", "waiting", kind="copy", package_pk=package_pk, volume_pk=volume_pk)
    add_request(session, "deliver:1", "done", kind="deliver")
    session.add(
        MountRequest(
            volume_pk=volume_pk,
            state="open",
            priority=0,
            created_at=AT,
            answered_at=None,
            answered_by="",
            comment="",
        )
    )
    session.flush()
    placements.refresh(session, [study_pk])
    session.execute(update(Study).values(**words.said_by(session, study_pk)))


def _findings_after(catalog: Catalog, *lies: str, limit: int = 1000) -> list[Finding]:
    """Check a sound catalog in which these statements were run; all is rolled back."""
    with catalog.read() as session:
        if catalog.engine.dialect.name == "sqlite":
            names = session.scalars(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all()
            for name in names:
                session.execute(text(f"DROP TRIGGER {name}"))
        else:
            for table in ("copy", "volume", "instance", "package", "deletion", "deleted_package"):
                session.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
        _sound(session)
        for lie in lies:
            session.execute(text(lie))
        if not any("placement" in lie for lie in lies):
            # What counts as a copy is told by the placement too: a lie about copies is one lie.
            placements.refresh(session, session.scalars(select(Study.pk)).all())
        return check(session, limit)


def test_a_sound_catalog_has_no_findings(catalog: Catalog) -> None:
    assert _findings_after(catalog) == []


def test_an_empty_catalog_has_no_findings(catalog: Catalog) -> None:
    with catalog.read() as session:
        assert check(session) == []


LIES: Sequence[tuple[str, str, str]] = (
    ("study-counter", "1.2.3", "UPDATE study SET n_instances = 2"),
    ("study-counter", "1.2.3", "UPDATE study SET n_series = 3"),
    ("study-counter", "1.2.3", "UPDATE study SET n_bytes = 61"),
    ("study-counter", "1.2.3", "UPDATE study SET unsealed = 0"),
    ("study-counter", "1.2.3", "UPDATE study SET packages = 0"),
    ("series-counter", "1.2.3.1", "UPDATE series SET n_instances = 9 WHERE uid = '1.2.3.1'"),
    ("study-modalities", "1.2.3", "UPDATE study SET modalities = '\\CT\\SRX\\'"),
    ("study-modalities", "1.2.3", "UPDATE study SET modalities = ''"),
    ("package-counter", "p0001", "UPDATE package SET n_instances = 3"),
    ("member-overlap", "p0001", 'UPDATE instance SET "offset" = 512 WHERE "offset" = 2048'),
    ("member-outside-package", "1.2.3.1.2", 'UPDATE instance SET "offset" = 10230 WHERE "offset" = 2048'),
    ("member-outside-package", "1.2.3.1.2", 'UPDATE instance SET "offset" = 0 WHERE "offset" = 2048'),
    ("no-copy", "p0001", "UPDATE copy SET state = 'lost'"),
    ("copy-on-retired-volume", "p0001.tar on A", "UPDATE volume SET state = 'retired' WHERE name = 'A'"),
    ("copy-times", "on A", "UPDATE copy SET written_at = NULL WHERE pk = (SELECT min(pk) FROM copy)"),
    (
        "copy-times",
        "on B",
        "UPDATE copy SET verified_at = '2025-12-31 00\\:00\\:00.000000'"
        " WHERE volume_pk = (SELECT pk FROM volume WHERE name = 'B')",
    ),
    ("volume-without-pool", "A", "UPDATE volume SET pool = NULL WHERE name = 'A'"),
    ("volume-used", "B", "UPDATE volume SET used = 10239 WHERE name = 'B'"),
    ("volume-place", "A", "UPDATE volume SET library = NULL WHERE name = 'A'"),
    ("volume-place", "A", "UPDATE volume SET element = NULL WHERE name = 'A'"),
    ("element-shared", "lib element 2", "UPDATE volume SET element = 2 WHERE name = 'A'"),
    ("request-about-nothing", "", "UPDATE request SET package_pk = NULL WHERE kind = 'recall'"),
    ("request-about-nothing", "", "UPDATE request SET study_pk = NULL WHERE kind = 'seal'"),
    ("request-times", "", "UPDATE request SET worker = '' WHERE state = 'active'"),
    ("request-times", "", "UPDATE request SET started_at = NULL WHERE state = 'active'"),
    ("request-times", "", "UPDATE request SET finished_at = '2025-12-31' WHERE state = 'done'"),
    ("waiting-for-nobody", "", "UPDATE mount_request SET state = 'done', answered_at = created_at"),
    ("waiting-for-nobody", "", "UPDATE request SET volume_pk = NULL WHERE state = 'waiting'"),
    ("mount-request-times", "C", "UPDATE mount_request SET answered_at = created_at"),
    ("study-placement", "1.2.3", "UPDATE study SET placement_pk = NULL"),
    (
        "placement-parts",
        "tape-a=2",
        "DELETE FROM placement_pool WHERE placement_pk = (SELECT placement_pk FROM study)",
    ),
    (
        "hold-lifted",
        "1.2.3",
        "INSERT INTO hold (pk, study_pk, placed_at, placed_by, reason, lifted_at, lifted_by, lifted_reason)"
        " SELECT 1, pk, first_received, 'a', 'b', first_received, '', 'c' FROM study",
    ),
)


def test_each_lie_is_found_alone_and_named(catalog: Catalog) -> None:
    for name, subject, lie in LIES:
        if catalog.engine.dialect.name == "sqlite":
            lie = lie.replace("'2025-12-31'", "'2025-12-31 00\\:00\\:00.000000'")
        findings = _findings_after(catalog, lie)
        assert [finding.check for finding in findings] == [name], (lie, findings)
        assert subject in findings[0].subject, lie
        assert findings[0].message and findings[0].remedy
        assert "{" not in findings[0].message + findings[0].remedy


def test_a_deleted_package_whose_instances_are_shown_is_found(catalog: Catalog) -> None:
    findings = _findings_after(
        catalog,
        "INSERT INTO deletion (pk, study_pk, kind, state, code, note, reason, made_at, made_by, approved_by,"
        " due_at, ended_by, ended_reason) SELECT 1, pk, 'trash', 'standing', '', '', 'r', first_received,"
        " 'a', '', first_received, '', '' FROM study",
        "INSERT INTO deleted_package (deletion_pk, package_pk) SELECT 1, pk FROM package",
    )
    assert [(each.check, each.subject) for each in findings] == [("deleted-but-shown", "1.2.3.1.p0001.tar")]


def test_every_check_has_a_lie_in_these_tests() -> None:
    elsewhere = {
        "deleted-but-shown",
        "empty-patient",
        "empty-study",
        "package-of-another-study",
        "request-of-two-studies",
    }
    tested = {name for name, _, _ in LIES} | elsewhere | {"digest-length", "study-words"}
    assert tested == {one.name for one in _CHECKS} | {"study-counter", "study-placement"}


def test_wrong_words_are_found_of_a_study_that_is_sealed_whole_and_read_again(catalog: Catalog) -> None:
    lies = (
        "UPDATE series SET body_part = 'CHEST'",
        "UPDATE series SET station = 'CT1'",
        "UPDATE study SET sop_classes = NULL",
        "UPDATE study SET body_parts = sop_classes",
    )
    for lie in lies:
        with catalog.read() as session:
            _sound(session)
            session.execute(text(lie))
            assert [each.check for each in check(session)] == []  # the next sealing reads it again
            session.execute(
                text('UPDATE instance SET package_pk = (SELECT pk FROM package), "offset" = 4096')
            )
            session.execute(text("UPDATE study SET unsealed = 0"))
            found = [each for each in check(session) if each.check == "study-words"]
            assert [each.subject for each in found] == ["1.2.3"], lie


def test_a_refresh_mends_what_policies_look_at_and_nothing_else(catalog: Catalog) -> None:
    with catalog.write() as session:
        _sound(session)
        add_study(session, add_patient(session, "P9"), "1.2.9")
        session.execute(
            text("UPDATE study SET placement_pk = (SELECT pk FROM placement) WHERE uid = '1.2.9'")
        )
        session.execute(text("UPDATE study SET placement_pk = NULL WHERE uid = '1.2.3'"))
        session.execute(text("DELETE FROM placement_pool"))
    assert mend.refresh_studies(catalog) == 2
    with catalog.read() as session:
        left = {each.check for each in check(session)}
        kept = dict(session.execute(select(Study.uid, Study.placement_pk)).all())
    assert left == {"empty-study"}
    assert kept["1.2.3"] is not None and kept["1.2.9"] is None
    assert mend.refresh_studies(catalog) == 0


def test_a_patient_and_a_study_without_anything_below_are_found(catalog: Catalog) -> None:
    with catalog.write() as session:
        add_patient(session, "nobody")
        add_study(session, add_patient(session, "P2"), "1.2.9")
    with catalog.read() as session:
        findings = check(session)
    assert [(finding.check, finding.subject) for finding in findings] == [
        ("empty-patient", "nobody\\"),
        ("empty-study", "1.2.9"),
    ]


def test_an_instance_in_another_study_s_package_is_found(catalog: Catalog) -> None:
    with catalog.write() as session:
        _sound(session)
        other = add_study(session, add_patient(session, "P2"), "1.2.4", n_series=1, n_instances=1, n_bytes=20)
        session.execute(text("UPDATE series SET study_pk = :pk WHERE uid = '1.2.3.2'"), {"pk": other})
        session.execute(text("UPDATE study SET modalities = '\\SR\\', unsealed = 1 WHERE uid = '1.2.4'"))
        session.execute(
            text(
                "UPDATE study SET n_series = 1, n_instances = 2, n_bytes = 40, unsealed = 0"
                " WHERE uid = '1.2.3'"
            )
        )
        assert check(session) == []
        package_pk = session.execute(text("SELECT pk FROM package")).scalar_one()
        session.execute(
            text('UPDATE instance SET package_pk = :pk, "offset" = 4096 WHERE package_pk IS NULL'),
            {"pk": package_pk},
        )
        session.execute(text("UPDATE package SET n_instances = 3"))
        session.execute(text("UPDATE study SET unsealed = 0"))
        (finding,) = check(session)
    assert (finding.check, finding.subject) == ("package-of-another-study", "1.2.3.2.1")
    assert "1.2.4" in finding.message


def test_a_request_of_two_studies_is_found(catalog: Catalog) -> None:
    with catalog.write() as session:
        _sound(session)
        other = add_study(session, add_patient(session, "P2"), "1.2.4")
        session.execute(text("UPDATE request SET study_pk = :pk WHERE kind = 'recall'"), {"pk": other})
        findings = check(session)
    assert {finding.check for finding in findings} == {"empty-study", "request-of-two-studies"}


def test_a_row_that_refers_to_nothing_is_found_on_sqlite(sqlite_catalog: Catalog) -> None:
    with sqlite_catalog.write() as session:
        _sound(session)
    with sqlite_catalog.engine.connect() as connection:
        raw: Any = connection.connection.dbapi_connection
        raw.execute("PRAGMA foreign_keys = OFF")
        raw.execute("UPDATE study SET patient_pk = 4711")
        raw.execute("PRAGMA foreign_keys = ON")
    with sqlite_catalog.read() as session:
        assert {finding.check for finding in check(session)} == {"reference", "empty-patient"}


def test_a_digest_of_the_wrong_length_is_found(catalog: Catalog) -> None:
    short = "zeroblob(20)" if catalog.engine.dialect.name == "sqlite" else "decode(repeat('00', 20), 'hex')"
    findings = _findings_after(catalog, f"UPDATE instance SET digest = {short} WHERE package_pk IS NULL")
    assert [(finding.check, finding.subject) for finding in findings] == [("digest-length", "1.2.3.2.1")]
    assert "20 bytes" in findings[0].message


def test_findings_of_one_check_are_limited(catalog: Catalog) -> None:
    with catalog.write() as session:
        for number in range(5):
            add_patient(session, f"P{number}")
    with catalog.read() as session:
        assert len(check(session, limit=3)) == 3


@pytest.mark.parametrize("modality", ["%", "_", "C'T", ""])
def test_a_modality_with_odd_characters_is_taken_literally(catalog: Catalog, modality: str) -> None:
    with catalog.read() as session:
        study_pk = add_study(session, add_patient(session), n_series=1, modalities="\\CT\\")
        add_series(session, study_pk, "1.2.3.1", modality)
        found = [finding.check for finding in check(session)]
    assert ("study-modalities" in found) == (modality != "")


def test_checking_only_reads(catalog: Catalog) -> None:
    with catalog.write() as session:
        _sound(session)
    statements: list[str] = []

    @event.listens_for(catalog.engine, "before_cursor_execute")
    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement.split()[0])

    with catalog.read() as session:
        check(session)
    assert len(statements) > 15
    assert set(statements) <= {"SELECT", "WITH", "BEGIN", "PRAGMA"}
