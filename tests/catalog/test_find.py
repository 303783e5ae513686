"""Finding in the catalog, on both databases, with rows put there directly."""

from __future__ import annotations

import functools
import hashlib
import itertools
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import String, cast, event, literal, select
from sqlalchemy.orm import Session

from hsm import terms
from hsm.availability import Reach
from hsm.catalog import find, matching, retrievable
from hsm.catalog.engine import Catalog
from hsm.catalog.tables import Copy, Instance, Name, Package, Patient, Series, Study, Volume
from hsm.model import Availability, Selection, Tier
from hsm.terms import AnyOf, Exact, Field, Level, Range, Term, Wildcard
from hsm.text import normalise_groups

AT = datetime(2026, 1, 1, tzinfo=UTC)
REACH = Reach({"online": Tier.ONLINE, "near": Tier.NEARLINE, "tape": Tier.OFFLINE})
CT = "1.2.840.10008.5.1.4.1.1.2"


class Rows:
    """Puts rows into a catalog, with defaults for what a test does not care about."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.syntax = self._add(Name(uid="1.2.840.10008.1.2.1"))
        self.classes: dict[str, int] = {}

    def _add(self, row: Any) -> int:
        self.session.add(row)
        self.session.flush()
        return int(row.pk)

    def patient(self, patient_id: str, name: str = "", **values: Any) -> int:
        alphabetic, ideographic, phonetic = normalise_groups(name)
        defaults = {"issuer": "", "birth_date": "", "sex": "", "key": f"{patient_id}\\"}
        return self._add(
            Patient(
                patient_id=patient_id,
                name=name,
                name_alphabetic=alphabetic,
                name_ideographic=ideographic or None,
                name_phonetic=phonetic or None,
                **(defaults | values),
            )
        )

    def study(self, patient: int, uid: str, **values: Any) -> int:
        texts = "date time study_id accession description referring_physician institution charset modalities"
        defaults = dict.fromkeys(texts.split(), "") | {"n_series": 0, "n_instances": 1, "unsealed": 0}
        defaults |= values
        alphabetic, ideographic, phonetic = normalise_groups(defaults["referring_physician"])
        return self._add(
            Study(
                patient_pk=patient,
                uid=uid,
                referring_alphabetic=alphabetic,
                referring_ideographic=ideographic or None,
                referring_phonetic=phonetic or None,
                n_bytes=0,
                source_ae="",
                first_received=AT,
                last_received=AT,
                last_accessed=AT,
                packages=0,
                **defaults,
            )
        )

    def series(self, study: int, uid: str, number: int | None = 1, **values: Any) -> int:
        texts = dict.fromkeys(["modality", "description", "body_part", "date", "time", "station"], "")
        return self._add(
            Series(study_pk=study, uid=uid, number=number, **(texts | {"n_instances": 1} | values))
        )

    def instance(
        self,
        series: int,
        uid: str,
        number: int | None = 1,
        *,
        version: int = 0,
        package: int | None = None,
        sop_class: str = CT,
    ) -> int:
        if sop_class not in self.classes:
            self.classes[sop_class] = self._add(Name(uid=sop_class))
        return self._add(
            Instance(
                series_pk=series,
                uid=uid,
                version=version,
                class_pk=self.classes[sop_class],
                syntax_pk=self.syntax,
                number=number,
                size=100,
                digest=hashlib.sha256(f"{uid}{version}".encode()).digest(),
                package_pk=package,
                offset=None if package is None else 1024,
            )
        )

    def package(self, study: int, number: int = 1) -> int:
        return self._add(
            Package(
                study_pk=study,
                number=number,
                key=f"{study}.p{number}",
                size=1,
                digest=b"\0" * 32,
                n_instances=1,
                sealed_at=AT,
            )
        )

    def copy(self, package: int, pool: str, volume: str, place: str, state: str = "verified") -> None:
        pk = self.session.execute(select(Volume.pk).where(Volume.name == volume)).scalar_one_or_none()
        if pk is None:
            pk = self._add(
                Volume(
                    name=volume,
                    uuid=str(uuid.uuid5(uuid.NAMESPACE_OID, volume)),
                    pool=pool,
                    state="active",
                    removable=place != "mounted",
                    capacity=1,
                    used=0,
                    place=place,
                    shelf="",
                    error="",
                    created_at=AT,
                )
            )
        verified = AT if state == "verified" else None
        self._add(Copy(package_pk=package, volume_pk=pk, state=state, locator="x", verified_at=verified))


@pytest.fixture
def rows(catalog: Catalog) -> Iterator[Rows]:
    with catalog.write() as session:
        yield Rows(session)


def found(rows: Rows, level: Level, wanted: Mapping[Field, Term], *fields: Field) -> list[find.Match]:
    return list(find.find(rows.session, level, wanted, REACH, frozenset(fields)))


def values(matches: list[find.Match], field: Field) -> list[find.Value]:
    return [match.values[field] for match in matches]


def patients(rows: Rows, term: Term | None) -> list[find.Value]:
    assert term is not None
    return values(found(rows, Level.PATIENT, {Field.PATIENT_NAME: term}), Field.PATIENT_ID)


def studies(rows: Rows, field: Field, term: Term) -> list[find.Value]:
    return values(found(rows, Level.STUDY, {field: term}), Field.STUDY_UID)


def test_names_match_by_group_whatever_their_case(rows: Rows) -> None:
    rows.patient("1", "Yamada^Tarou=山田^太郎=やまだ^たろう")
    rows.patient("2", "YAMADA^HANAKO")
    rows.patient("3", "山田^花子")
    rows.patient("4", "Müller^Jürgen")
    rows.patient("5", "Doe")
    rows.patient("6", "Doeman^A")
    assert patients(rows, terms.name_term("yamada*")) == ["1", "2"]
    assert patients(rows, terms.name_term("=山田*")) == ["1"]
    assert patients(rows, terms.name_term("山田*")) == ["1", "3"]
    assert patients(rows, terms.name_term("==やまだ^*")) == ["1"]
    assert patients(rows, terms.name_term("山田^太郎")) == ["1"]
    assert patients(rows, terms.name_term("やまだ^たろう")) == ["1"]
    assert patients(rows, terms.name_term("山*う")) == []
    assert patients(rows, terms.name_term("MÜLLER^jür*")) == ["4"]
    assert patients(rows, terms.name_term("Doe^*")) == ["5"]
    assert patients(rows, terms.name_term("doe*")) == ["5", "6"]


def test_referring_physicians_match_by_group_too(rows: Rows) -> None:
    patient = rows.patient("1")
    rows.study(patient, "1.1", referring_physician="Suzuki^Jiro=鈴木^次郎=すずき^じろう")
    rows.study(patient, "1.2", referring_physician="=鈴木^三郎")
    rows.study(patient, "1.3", referring_physician="鈴木^四郎")
    for key, expected in {
        "suzuki*": ["1.1"],
        "=鈴木*": ["1.1", "1.2"],
        "鈴木*": ["1.1", "1.2", "1.3"],
        "==すずき*": ["1.1"],
        "suzuki*=鈴木^次郎": ["1.1"],
    }.items():
        term = terms.name_term(key)
        assert term is not None
        assert studies(rows, Field.REFERRING_PHYSICIAN, term) == expected, key


def test_what_is_special_to_a_database_is_a_letter_like_any_other(rows: Rows) -> None:
    patient = rows.patient("1")
    special = ["100%", "a_b", "a\\b", "[x]", "!y", "it's", 'say "x"', "a*b", "a?b"]
    for at, wild in enumerate(special):
        rows.study(patient, f"1.{at}", description=f"pre {wild} post")
        rows.study(patient, f"2.{at}", description=f"PRE {wild} POST")
    rows.study(patient, "3", description="pre 100x post axb aab y post pre x post")
    for at, wild in enumerate(special):
        escaped = "".join(f"\\{char}" if char in "*?\\" else char for char in wild)
        assert studies(rows, Field.STUDY_DESCRIPTION, Wildcard(f"pre {escaped} *")) == [f"1.{at}"]
        assert studies(rows, Field.STUDY_DESCRIPTION, Wildcard(f"*{escaped}*")) == [f"1.{at}", f"2.{at}"]
        assert studies(rows, Field.STUDY_DESCRIPTION, Exact(f"pre {wild} post")) == [f"1.{at}"]


ODD = st.text(alphabet=st.sampled_from("aAb%_[]!^-*?\\山é'"), max_size=8)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pattern=ODD, values=st.lists(ODD, max_size=8))
def test_wildcards_in_sql_are_those_of_python(catalog: Catalog, pattern: str, values: list[str]) -> None:
    with catalog.read() as session:
        sqlite = session.get_bind().dialect.name == "sqlite"
        for value in values:
            text = cast(literal(value), String)
            condition = matching.compare(text, Wildcard(pattern), sqlite)
            assert bool(session.scalar(select(condition))) == terms.matches(pattern, value), value


NAME = st.text(alphabet=st.sampled_from("ab^=*?山[%_"), max_size=8)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=NAME, name=NAME)
def test_names_match_in_sql_as_they_do_in_python(catalog: Catalog, key: str, name: str) -> None:
    term = terms.name_term(key)
    if term is None:
        return
    first, *others = normalise_groups(name)
    with catalog.read() as session:
        sqlite = session.get_bind().dialect.name == "sqlite"
        columns = [cast(literal(group), String) for group in (first, *(other or None for other in others))]
        assert bool(session.scalar(select(matching.name(columns, term, sqlite)))) == term.accepts(name)


def test_ranges_are_open_on_either_side_and_never_find_what_has_no_date(rows: Rows) -> None:
    patient = rows.patient("1")
    for date in ("", "20191231", "20200101", "20200630", "20210101"):
        rows.study(patient, f"1.{date or 0}", date=date)
    assert studies(rows, Field.STUDY_DATE, Range("20200101", "20201231")) == ["1.20200101", "1.20200630"]
    assert studies(rows, Field.STUDY_DATE, Range(None, "20200101")) == ["1.20191231", "1.20200101"]
    assert studies(rows, Field.STUDY_DATE, Range("20200630", None)) == ["1.20200630", "1.20210101"]
    assert studies(rows, Field.STUDY_DATE, Range("20210102", "20200101")) == []
    assert studies(rows, Field.STUDY_DATE, Exact("20200630")) == ["1.20200630"]


def test_times_compare_by_code_point_in_every_locale(rows: Rows) -> None:
    patient = rows.patient("1")
    for at, time in enumerate(("08", "0800", "080000.5", "1030", "103059.999999", "1031")):
        rows.study(patient, f"1.{at}", time=time)
    assert studies(rows, Field.STUDY_TIME, Range("08", "103059.999999")) == [f"1.{at}" for at in range(5)]
    assert studies(rows, Field.STUDY_TIME, Range("1030", None)) == ["1.3", "1.4", "1.5"]


def test_uid_lists_find_each_of_them(rows: Rows) -> None:
    patient = rows.patient("1")
    for at in range(4):
        rows.study(patient, f"1.{at}")
    wanted = AnyOf((Exact("1.3"), Exact("1.1"), Exact("9.9")))
    assert studies(rows, Field.STUDY_UID, wanted) == ["1.1", "1.3"]
    assert studies(rows, Field.STUDY_UID, Exact("1.*")) == []


def test_identifiers_are_case_sensitive_on_both_databases(rows: Rows) -> None:
    for patient_id in ("abc", "ABC"):
        rows.study(rows.patient(patient_id), f"1.{len(patient_id)}{ord(patient_id[0])}", accession=patient_id)
    by_id = {Field.PATIENT_ID: Wildcard("a*")}
    assert values(found(rows, Level.PATIENT, by_id), Field.PATIENT_ID) == ["abc"]
    assert studies(rows, Field.ACCESSION, Exact("ABC")) == ["1.365"]


def test_modalities_in_study_match_whole_modalities(rows: Rows) -> None:
    patient = rows.patient("1")
    for at, modalities in enumerate((["CT"], ["CT", "SR"], ["CTX"], [])):
        study = rows.study(
            patient, f"1.{at}", modalities="\\" + "\\".join(modalities) + "\\" if modalities else ""
        )
        for modality in modalities:
            rows.series(study, f"1.{at}.{modality}", modality=modality)
    assert studies(rows, Field.MODALITIES, Exact("CT")) == ["1.0", "1.1"]
    assert studies(rows, Field.MODALITIES, AnyOf((Exact("SR"), Exact("CTX")))) == ["1.1", "1.2"]
    assert studies(rows, Field.MODALITIES, Wildcard("C*R")) == []
    assert studies(rows, Field.MODALITIES, Wildcard("C*")) == ["1.0", "1.1", "1.2"]
    all_of_them = values(found(rows, Level.STUDY, {}), Field.MODALITIES)
    assert all_of_them == [("CT",), ("CT", "SR"), ("CTX",), ()]


def test_each_level_shows_itself_and_what_is_above(rows: Rows) -> None:
    patient = rows.patient("P", "Doe^John", sex="M")
    study = rows.study(patient, "1", n_series=2, n_instances=3, charset="ISO_IR 100")
    rows.study(patient, "2", n_series=1, n_instances=4, charset="")
    series = rows.series(study, "1.1", 5, modality="CT", n_instances=2)
    rows.series(study, "1.2", None, modality="SR")
    rows.instance(series, "1.1.2", 2)
    rows.instance(series, "1.1.1", 10, sop_class="1.2.840.10008.5.1.4.1.1.88.11")
    counts = (Field.PATIENT_STUDIES, Field.PATIENT_SERIES, Field.PATIENT_INSTANCES)
    (match,) = found(rows, Level.PATIENT, {}, *counts)
    assert [match.values[field] for field in counts] == [2, 3, 7]
    assert Field.STUDY_UID not in match.values
    one, two = found(rows, Level.STUDY, {}, Field.SOP_CLASSES)
    assert (one.values[Field.PATIENT_ID], one.charset) == ("P", "ISO_IR 100")
    assert one.values[Field.SOP_CLASSES] == (CT, "1.2.840.10008.5.1.4.1.1.88.11")
    assert two.values[Field.SOP_CLASSES] == ()
    by_number = found(rows, Level.SERIES, {Field.SERIES_NUMBER: Exact("5")})
    assert values(by_number, Field.SERIES_INSTANCES) == [2]
    images = found(rows, Level.IMAGE, {Field.STUDY_UID: Exact("1"), Field.PATIENT_SEX: Exact("M")})
    assert values(images, Field.SOP_INSTANCE_UID) == ["1.1.2", "1.1.1"]
    assert values(images, Field.TRANSFER_SYNTAX_UID) == ["1.2.840.10008.1.2.1"] * 2
    by_class = found(rows, Level.IMAGE, {Field.SOP_CLASS_UID: Exact(CT)})
    assert values(by_class, Field.INSTANCE_NUMBER) == [2]
    with pytest.raises(ValueError, match="below the STUDY level"):
        found(rows, Level.STUDY, {Field.MODALITY: Exact("CT")})


def test_only_the_newest_version_is_shown_and_selected(rows: Rows) -> None:
    series = rows.series(rows.study(rows.patient("1"), "1"), "1.1")
    rows.instance(series, "1.1.1", 1)
    newest = rows.instance(series, "1.1.1", 7, version=1)
    rows.instance(series, "1.1.2", 2)
    images = found(rows, Level.IMAGE, {})
    assert sorted(values(images, Field.INSTANCE_NUMBER)) == [2, 7]  # type: ignore[type-var]
    selected = retrievable.select_instances(rows.session, Selection(sop_instance_uids=("1.1.1",)))
    assert [(each.pk, each.version) for each in selected] == [(newest, 1)]


def test_each_series_shows_its_own_newest_version_of_a_uid(rows: Rows) -> None:
    patient = rows.patient("1")
    for version, study in enumerate(("1", "2")):
        rows.instance(rows.series(rows.study(patient, study), f"{study}.1"), "9.9", 5, version=version)
    for study, version in (("1", 0), ("2", 1)):
        assert len(found(rows, Level.IMAGE, {Field.STUDY_UID: Exact(study)})) == 1
        selected = retrievable.select_instances(rows.session, Selection(study_uids=(study,)))
        assert [(each.study_uid, each.version) for each in selected] == [(study, version)]


def online_near_tape(rows: Rows) -> int:
    """A study of three packages in one series each, and an unsealed instance."""
    study = rows.study(rows.patient("1"), "1", unsealed=1)
    for number, (pool, volume, place) in enumerate(
        (("online", "online", "mounted"), ("near", "near", "mounted"), ("tape", "T1", "shelf")), 1
    ):
        package = rows.package(study, number)
        rows.copy(package, pool, volume, place)
        rows.instance(rows.series(study, f"1.{number}", number), f"1.{number}.1", package=package)
    rows.instance(rows.series(study, "1.4", 4), "1.4.1")
    return study


def test_availability_is_that_of_the_least_available_package(rows: Rows) -> None:
    online_near_tape(rows)
    wanted = {"1.1": "ONLINE", "1.2": "NEARLINE", "1.3": "OFFLINE", "1.4": "ONLINE"}
    series = found(rows, Level.SERIES, {})
    assert {match.values[Field.SERIES_UID]: match.availability for match in series} == wanted
    images = found(rows, Level.IMAGE, {})
    assert {match.values[Field.SERIES_UID]: match.availability for match in images} == wanted
    medium = find.Medium("T1", str(uuid.uuid5(uuid.NAMESPACE_OID, "T1")))
    for level in (Level.PATIENT, Level.STUDY):
        (match,) = found(rows, level, {})
        assert match.availability is Availability.OFFLINE
        assert match.media == (medium,)
    assert [match.media for match in series] == [(), (), (medium,), ()]


def test_a_study_that_waits_to_be_sealed_is_online_and_one_without_copies_unavailable(rows: Rows) -> None:
    patient = rows.patient("1")
    rows.study(patient, "1", unsealed=3)
    rows.package(rows.study(patient, "2"))
    rows.study(patient, "3")
    states = [match.availability.value for match in found(rows, Level.STUDY, {})]
    assert states == ["ONLINE", "UNAVAILABLE", "UNAVAILABLE"]


def test_any_number_of_matches_costs_a_bounded_number_of_statements_a_page(rows: Rows) -> None:
    patient = rows.patient("1")
    count = find.ROWS_AT_FIRST + find.ROWS_AT_ONCE
    for at in range(count):
        rows.copy(rows.package(rows.study(patient, f"1.{at}")), "online", "online", "mounted")
    statements: list[str] = []
    bind = rows.session.get_bind()
    listen = functools.partial(_note, statements)
    event.listen(bind, "before_cursor_execute", listen)
    try:
        assert len(found(rows, Level.STUDY, {})) == count
    finally:
        event.remove(bind, "before_cursor_execute", listen)
    pages = 2
    assert len([each for each in statements if not each.startswith("SET LOCAL")]) <= 1 + 3 * pages


def _note(
    statements: list[str],
    _connection: Any,
    _cursor: Any,
    statement: str,
    _parameters: Any,
    _context: Any,
    _many: bool,
) -> None:
    statements.append(statement)


def test_matches_are_not_read_before_they_are_wanted(sqlite_catalog: Catalog) -> None:
    """SQLite counts its steps: a thousand more studies must not make the first match dearer."""

    def steps_to_the_first() -> int:
        with sqlite_catalog.read() as session:
            raw: Any = session.connection().connection.dbapi_connection
            steps = itertools.count()
            raw.set_progress_handler(lambda: next(steps) and 0, 1)
            next(find.find(session, Level.STUDY, {}, REACH))
            raw.set_progress_handler(None, 1)
            return next(steps)

    with sqlite_catalog.write() as session:
        rows = Rows(session)
        patient = rows.patient("1")
        for number in range(find.ROWS_AT_FIRST):
            rows.study(patient, f"1.{number}")
    few = steps_to_the_first()
    with sqlite_catalog.write() as session:
        rows.session = session
        for number in range(1000, 2000):
            rows.study(patient, f"1.{number}")
    assert steps_to_the_first() < few * 1.5


def test_a_consumer_that_stops_early_leaves_the_session_usable(rows: Rows) -> None:
    patient = rows.patient("1")
    for at in range(5):
        rows.study(patient, f"1.{at}")
    stream = find.find(rows.session, Level.STUDY, {}, REACH)
    assert next(stream).values[Field.STUDY_UID] == "1.0"
    stream.close()  # type: ignore[attr-defined]
    assert len(found(rows, Level.STUDY, {})) == 5


def test_instances_are_selected_in_viewing_order(rows: Rows) -> None:
    study = rows.study(rows.patient("P1"), "1")
    late, early, none = (rows.series(study, f"1.{n}", n) for n in (10, 9, None))
    for series, uid, number in (
        (late, "l2", 2),
        (late, "l10", 10),
        (late, "lx", None),
        (none, "n1", 1),
        (early, "e2b", 2),
        (early, "e2a", 2),
    ):
        rows.instance(series, uid, number)
    other = rows.study(rows.patient("P2"), "2")
    rows.instance(rows.series(other, "2.1"), "o1")
    select_uids = functools.partial(_selected, rows.session)
    assert select_uids(study_uids=("1",)) == ["e2a", "e2b", "l2", "l10", "lx", "n1"]
    assert select_uids(study_uids=("2", "1"))[-1] == "o1"
    assert select_uids(patient_ids=("P2",)) == ["o1"]
    assert select_uids(patient_ids=("P2",), study_uids=("1",)) == []
    assert select_uids(study_uids=("1",), series_uids=("1.9", "1.10", "2.1")) == [
        "e2a",
        "e2b",
        "l2",
        "l10",
        "lx",
    ]
    assert select_uids(sop_instance_uids=("o1", "l2", "nobody")) == ["l2", "o1"]


def _selected(session: Session, **keys: tuple[str, ...]) -> list[str]:
    return [each.sop_instance_uid for each in retrievable.select_instances(session, Selection(**keys))]


def test_a_selection_longer_than_a_statement_can_hold_is_selected_whole(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrievable, "KEYS_AT_ONCE", 3)
    series = rows.series(rows.study(rows.patient("1"), "1"), "1.1")
    uids = tuple(f"1.1.{number}" for number in range(10))
    for number, uid in enumerate(uids):
        rows.instance(series, uid, number)
    assert _selected(rows.session, sop_instance_uids=tuple(reversed(uids))) == list(uids)
    assert _selected(rows.session, study_uids=("1",) * 5, sop_instance_uids=uids) == list(uids)
