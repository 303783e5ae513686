"""C-FIND, C-MOVE and C-GET identifiers to values, and matches to answers."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom.dsutils import encode
from sqlalchemy import text as sql

from hsm import terms
from hsm.availability import Reach
from hsm.catalog.engine import Catalog
from hsm.catalog.find import Match, Medium
from hsm.catalog.tables import Patient, Study
from hsm.dicom.answer import response
from hsm.dicom.contexts import Model
from hsm.dicom.elements import elements
from hsm.dicom.find import handle_find
from hsm.dicom.query import Query, parse_query, parse_selection, read_identifier
from hsm.errors import BadInput
from hsm.model import Availability, Selection, Tier
from hsm.terms import AnyOf, Exact, Field, Level, Range, Term, Wildcard
from hsm.text import decode

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
JAPANESE = ["", "ISO 2022 IR 87"]


def reach() -> Reach:
    return Reach({"online": Tier.ONLINE})


def identifier(level: str = "STUDY", charset: str | list[str] = "", **keys: Any) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = charset
    dataset.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(dataset, keyword, value)
    return dataset


def over_the_wire(dataset: Dataset, syntax: str = IMPLICIT) -> Dataset:
    encoded = encode(dataset, syntax == IMPLICIT, syntax != BIG)
    assert encoded is not None
    return read_identifier(encoded, syntax)


def query(level: str = "STUDY", model: Model = Model.STUDY_ROOT, **keys: Any) -> Query:
    return parse_query(over_the_wire(identifier(level, **keys)), model)


def raw_query(tag: int, value: bytes, level: str = "STUDY") -> dict[Field, Term]:
    """Keys as peers send them, whatever pydicom thinks of the value."""
    dataset = over_the_wire(identifier(level))
    dataset[tag] = pydicom.dataelem.RawDataElement(
        pydicom.tag.BaseTag(tag), None, len(value), value, 0, True, True
    )
    return dict(parse_query(dataset, Model.PATIENT_ROOT).terms)


def test_every_kind_of_matching() -> None:
    found = query(
        PatientID="4711",
        PatientName="DOE^J*",
        StudyDate="20200101-20201231",
        StudyTime="",
        AccessionNumber="*",
        StudyDescription="CT?HEAD*",
        StudyInstanceUID=["1.2", "1.3"],
        ModalitiesInStudy=["CT", "MR"],
        NumberOfStudyRelatedInstances="7",
        InstanceAvailability="ONLINE",
        RetrieveAETitle="OTHER",
        StorageMediaFileSetID="T1",
    )
    assert found.level is Level.STUDY
    assert dict(found.terms) == {
        Field.PATIENT_ID: Exact("4711"),
        Field.PATIENT_NAME: terms.name_term("doe^j*"),
        Field.STUDY_DATE: Range("20200101", "20201231"),
        Field.STUDY_DESCRIPTION: Wildcard("CT?HEAD*"),
        Field.STUDY_UID: AnyOf((Exact("1.2"), Exact("1.3"))),
        Field.MODALITIES: AnyOf((Exact("CT"), Exact("MR"))),
    }
    assert len(found.keys) == 12


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_an_identifier_reads_alike_in_every_encoding_and_without_one(syntax: str) -> None:
    dataset = identifier(
        "SERIES", JAPANESE, PatientName="=山田*", SeriesNumber="3", StudyInstanceUID="1.2", Modality="CT"
    )
    assert parse_query(over_the_wire(dataset, syntax), Model.STUDY_ROOT) == parse_query(
        dataset, Model.STUDY_ROOT
    )


def test_keys_are_decoded_in_the_requesters_character_set() -> None:
    for charset, name in (("GB18030", "王*"), (JAPANESE, "山田^*"), ("ISO_IR 100", "Mül*")):
        found = query(charset=charset, PatientName=name)
        assert dict(found.terms)[Field.PATIENT_NAME] == terms.name_term(name)
    assert query(charset=JAPANESE, PatientName="x").charset == "\\ISO 2022 IR 87"


def test_a_wildcard_in_a_uid_is_no_wildcard() -> None:
    assert raw_query(0x0020000D, b"1.2.*") == {Field.STUDY_UID: Exact("1.2.*")}


def test_a_list_of_codes_may_have_wildcards_and_one_that_is_universal_frees_all() -> None:
    wanted = AnyOf((Exact("CT"), Wildcard("M*")))
    assert raw_query(0x00080061, b"CT\\M*") == {Field.MODALITIES: wanted}
    assert raw_query(0x00080061, b"CT\\*") == {}


@pytest.mark.parametrize(
    ("value", "term"),
    [
        (b"20200101", Exact("20200101")),
        (b"20200101-", Range("20200101", None)),
        (b"-20200101 ", Range(None, "20200101")),
        (b"2020.01.01-2020.12.31", Range("20200101", "20201231")),
        (b"20200101 - 20201231", Range("20200101", "20201231")),
    ],
)
def test_dates(value: bytes, term: Term) -> None:
    assert raw_query(0x00080020, value) == {Field.STUDY_DATE: term}


@pytest.mark.parametrize("value", [b"", b"*", b"-", b"  "])
def test_a_date_that_says_nothing_matches_everything(value: bytes) -> None:
    assert raw_query(0x00080020, value) == {}


@pytest.mark.parametrize(
    ("value", "includes", "excludes"),
    [
        (b"1030", ["1030", "103000", "103000.0", "103000.000000"], ["10", "103001", "1031", "103000.000001"]),
        (b"10", ["10", "1000", "100000"], ["1001", "09", "100001"]),
        (b"0800-1200", ["08", "0800", "080000.0", "11", "1200", "120059.9"], ["0759", "1201", "075959.9"]),
        (b"00:00-", ["00", "000000", "2359"], []),
        (b"-09", ["00", "09", "095959.999999"], ["10", "100000"]),
        (b"101500.5-101500.75", ["101500.5", "101500.500000", "101500.759"], ["101500.49", "101500.76"]),
    ],
)
def test_times_match_by_meaning(value: bytes, includes: list[str], excludes: list[str]) -> None:
    term = raw_query(0x00080030, value)[Field.STUDY_TIME]
    assert isinstance(term, Range)

    def accepts(time: str) -> bool:
        return (term.low is None or time >= term.low) and (term.high is None or time <= term.high)

    assert [time for time in includes if not accepts(time)] == []
    assert [time for time in excludes if accepts(time)] == []


@pytest.mark.parametrize(
    ("tag", "value", "level"),
    [
        (0x00080020, b"2020", "STUDY"),
        (0x00080020, b"20200101-20200102-20200103", "STUDY"),
        (0x00080020, b"20200101\\20200102", "STUDY"),
        (0x00080030, b"noon", "STUDY"),
        (0x00080030, b"123", "STUDY"),
        (0x00200011, b"one", "SERIES"),
        (0x00100010, b"Doe\\Roe", "STUDY"),
        (0x00100010, b"x" * 2000, "STUDY"),
        (0x00081030, b"*a" * 1000, "STUDY"),
        (0x0020000D, b"1\\" + b"\\".join(b"1.%d" % n for n in range(10_001)), "STUDY"),
    ],
)
def test_what_cannot_be_matched_is_refused_by_its_tag(tag: int, value: bytes, level: str) -> None:
    with pytest.raises(BadInput, match=rf"\({tag >> 16:04X},{tag & 0xFFFF:04X}\)"):
        raw_query(tag, value, level)


def test_keys_below_the_level_are_answered_empty_and_not_matched() -> None:
    found = query(Modality="CT", SeriesInstanceUID="1.2.3", StudyInstanceUID="1.2")
    assert dict(found.terms) == {Field.STUDY_UID: Exact("1.2")}


@pytest.mark.parametrize(
    ("level", "model"),
    [("", Model.PATIENT_ROOT), ("FRAME", Model.PATIENT_ROOT), ("PATIENT", Model.STUDY_ROOT)],
)
def test_a_level_that_the_model_lacks_is_refused(level: str, model: Model) -> None:
    for parse in (parse_query, parse_selection):
        with pytest.raises(BadInput, match=r"\(0008,0052\)"):
            parse(identifier(level, StudyInstanceUID="1.2"), model)  # type: ignore[operator]


def test_sequences_private_keys_and_unknown_keys_do_not_disturb() -> None:
    dataset = identifier(
        StudyInstanceUID="", PatientComments="x*", RequestAttributesSequence=Sequence([Dataset()])
    )
    dataset.add_new(0x00091001, "LO", "private")
    dataset.add_new(0x00080000, "UL", 12)
    dataset.add_new(0x00280010, "US", 512)
    found = parse_query(over_the_wire(dataset, EXPLICIT), Model.STUDY_ROOT)
    assert found.terms == ()
    answer = sent(found, match())
    assert answer[0x00104000] == b""
    assert answer[0x00280010] == b""
    assert answer[0x00400275] == b""
    assert 0x00091001 not in answer


def test_selections_at_every_level() -> None:
    keys = {
        "PatientID": "P*",
        "StudyInstanceUID": ["1.2", "1.3"],
        "SeriesInstanceUID": "1.2.3",
        "SOPInstanceUID": "1.2.3.4",
    }
    patient, study, series, image = ("P*",), ("1.2", "1.3"), ("1.2.3",), ("1.2.3.4",)
    root = Model.PATIENT_ROOT
    for level, expected in {
        "PATIENT": Selection(patient),
        "STUDY": Selection(patient, study),
        "SERIES": Selection(patient, study, series),
        "IMAGE": Selection(patient, study, series, image),
    }.items():
        assert parse_selection(over_the_wire(identifier(level, **keys)), root) == expected
    assert parse_selection(identifier("STUDY", **keys), Model.STUDY_ROOT) == Selection((), study)
    only = identifier("IMAGE", SOPInstanceUID=["1.2.3.4", "1.2.3.4", "1.2.3.5"])
    assert parse_selection(only, root) == Selection(sop_instance_uids=("1.2.3.4", "1.2.3.5"))


def test_a_selection_without_the_levels_key_or_with_what_is_no_uid_is_refused() -> None:
    with pytest.raises(BadInput, match=r"SERIES retrieve needs \(0020,000E\)"):
        parse_selection(identifier("SERIES", StudyInstanceUID="1.2"), Model.STUDY_ROOT)
    dataset = over_the_wire(identifier("STUDY"))
    dataset[0x0020000D] = pydicom.dataelem.RawDataElement(
        pydicom.tag.BaseTag(0x0020000D), None, 4, b"1.2*", 0, True, True
    )
    with pytest.raises(BadInput, match=r"\(0020,000D\)"):
        parse_selection(dataset, Model.STUDY_ROOT)


@given(st.binary(max_size=200))
def test_garbage_identifiers_are_refused_or_read_but_never_fail_otherwise(data: bytes) -> None:
    try:
        dataset = read_identifier(data, IMPLICIT)
        parse_query(dataset, Model.PATIENT_ROOT)
    except BadInput as error:
        assert str(error)


def match(**changes: Any) -> Match:
    values: dict[Field, Any] = {
        Field.PATIENT_ID: "P",
        Field.PATIENT_NAME: "Doe^John",
        Field.STUDY_UID: "1.2",
        Field.STUDY_DATE: "20200101",
        Field.STUDY_DESCRIPTION: "",
        Field.MODALITIES: ("CT", "SR"),
        Field.STUDY_INSTANCES: 12,
        Field.SERIES_NUMBER: None,
    }
    parts = {"charset": "", "availability": Availability.ONLINE, "media": ()} | changes
    return Match(Level.STUDY, values | parts.pop("values", {}), **parts)


def sent(asked: Query, found: Match) -> dict[int, bytes]:
    """An answer's values as they go over the wire, padding removed."""
    encoded = encode(response(asked, found, "HSM"), False, True)
    assert encoded is not None
    return {each.tag: bytes(each.value).strip(b" \0") for each in elements(encoded, EXPLICIT)}


def test_an_answer_has_what_was_asked_and_what_is_required() -> None:
    asked = query(StudyDate="", ModalitiesInStudy="", NumberOfStudyRelatedInstances="", StudyDescription="")
    assert sent(asked, match()) == {
        0x00080020: b"20200101",
        0x00080052: b"STUDY",
        0x00080054: b"HSM",
        0x00080056: b"ONLINE",
        0x00080061: b"CT\\SR",
        0x00081030: b"",
        0x00100020: b"P",
        0x0020000D: b"1.2",
        0x00201208: b"12",
    }


def test_an_offline_answer_names_its_medium() -> None:
    medium = Medium("T00001L8", "00000000-0000-0000-0000-0000000000ff")
    answer = sent(query(), match(availability=Availability.OFFLINE, media=(medium, Medium("T2", "x"))))
    assert (answer[0x00880130], answer[0x00880140]) == (b"T00001L8", b"2.25.255")
    assert (answer[0x00080056], answer[0x00080054]) == (b"OFFLINE", b"HSM")
    online = sent(query(StorageMediaFileSetID="", StorageMediaFileSetUID=""), match())
    assert (online[0x00880130], online[0x00880140]) == (b"", b"")
    assert sent(query(), match(availability=Availability.UNAVAILABLE))[0x00080054] == b""


@pytest.mark.parametrize(
    ("asked", "studied", "name", "answered"),
    [
        ("", "", "Doe^John", ""),
        ("ISO_IR 192", "GB18030", "王^小东", "ISO_IR 192"),
        ("", "GB18030", "Wang=王^小东", "GB18030"),
        ("ISO_IR 100", "", "Müller", "ISO_IR 100"),
        ("ISO_IR 100", "\\ISO 2022 IR 87", "Yamada=山田^太郎=やまだ", "\\ISO 2022 IR 87"),
        ("ISO_IR 100", "\\ISO 2022 IR 87", "Müller=山田", "ISO_IR 192"),
        ("", "\\ISO 2022 IR 149", "Hong^Gildong=洪^吉洞=홍^길동", "\\ISO 2022 IR 149"),
        ("ISO_IR 13", "", "ﾔﾏﾀﾞ^ﾀﾛｳ", "ISO_IR 13"),
        ("", "NONSENSE", "Łódź", "ISO_IR 192"),
    ],
)
def test_an_answer_is_in_a_set_that_its_values_need(
    asked: str, studied: str, name: str, answered: str
) -> None:
    dataset = identifier("STUDY", asked.split("\\") if asked else "", PatientName="")
    found = match(charset=studied, values={Field.PATIENT_NAME: name})
    answer = sent(parse_query(dataset, Model.STUDY_ROOT), found)
    charset = answer.get(0x00080005, b"").decode()
    assert charset == answered
    assert decode(answer[0x00100010], charset, name=True) == name


def test_values_that_break_the_standard_are_answered_all_the_same() -> None:
    odd = {
        Field.STUDY_DATE: "yesterday",
        Field.STUDY_DESCRIPTION: "x" * 500,
        Field.MODALITIES: ("ct\u4e00",),
        Field.PATIENT_NAME: "a=b=c",
        Field.STUDY_UID: "1.2.\u00e9",
    }
    answer = sent(
        query(StudyDate="", ModalitiesInStudy="", PatientName="", StudyDescription=""), match(values=odd)
    )
    assert answer[0x00080020] == b"yesterday"
    assert answer[0x00080061] == b"ct?"
    assert answer[0x00081030] == b"x" * 500


def event(dataset: bytes, *, cancel_after: int = 10**6) -> Any:
    asked = iter(range(10**6))

    class Event:
        assoc = SimpleNamespace(requestor=SimpleNamespace(ae_title="WS1"))
        # What a request calls its class may be anything: its context says what it is.
        request = SimpleNamespace(AffectedSOPClassUID="1.2\xff\0", Identifier=io.BytesIO(dataset))
        context = SimpleNamespace(transfer_syntax=IMPLICIT, abstract_syntax=STUDY_FIND)

        @property
        def is_cancelled(self) -> bool:
            return next(asked) >= cancel_after

    return Event()


def add_studies(catalog: Catalog, count: int) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    texts = (
        "date time study_id accession description referring_physician referring_alphabetic institution"
        " charset modalities source_ae"
    )
    with catalog.write() as session:
        patient = Patient(
            key="P", patient_id="P", issuer="", name="山田", name_alphabetic="山田",
            birth_date="", sex="",
        )  # fmt: skip
        session.add(patient)
        session.flush()
        for number in range(count):
            session.add(
                Study(
                    patient_pk=patient.pk,
                    uid=f"1.{number}",
                    **dict.fromkeys(texts.split(), ""),
                    **dict.fromkeys(("n_series", "n_bytes", "packages"), 0),
                    n_instances=1,
                    **dict.fromkeys(("first_received", "last_received", "last_accessed"), at),
                    unsealed=1,
                )
            )


def asked(catalog: Catalog, event: Any) -> list[tuple[Any, Any]]:
    return list(handle_find(event, catalog, "HSM", reach))


def wire(dataset: Dataset) -> bytes:
    encoded = encode(dataset, True, True)
    assert encoded is not None
    return encoded


def test_a_find_streams_its_matches(sqlite_catalog: Catalog) -> None:
    add_studies(sqlite_catalog, 3)
    responses = asked(
        sqlite_catalog, event(wire(identifier(StudyInstanceUID="", charset="ISO_IR 192", PatientName="山*")))
    )
    assert [(status, str(found.StudyInstanceUID)) for status, found in responses] == [
        (0xFF00, "1.0"),
        (0xFF00, "1.1"),
        (0xFF00, "1.2"),
    ]


def test_a_cancelled_find_ends_with_cancel(sqlite_catalog: Catalog) -> None:
    add_studies(sqlite_catalog, 3)
    responses = asked(sqlite_catalog, event(wire(identifier(StudyInstanceUID="")), cancel_after=2))
    assert [status for status, _ in responses] == [0xFF00, 0xFF00, 0xFE00]


@pytest.mark.parametrize("dataset", [b"", b"\x08\x00\x52\x00\xff\x00\x00\x00STUDY", b"\xff" * 40])
def test_a_bad_identifier_is_a900_with_a_comment(sqlite_catalog: Catalog, dataset: bytes) -> None:
    ((status, found),) = asked(sqlite_catalog, event(dataset))
    assert (status.Status, found) == (0xA900, None)
    assert 0 < len(status.ErrorComment) <= 64


def test_a_catalog_that_fails_is_c001(sqlite_catalog: Catalog) -> None:
    with sqlite_catalog.write() as session:
        session.execute(sql("ALTER TABLE study RENAME TO elsewhere"))
    ((status, _),) = asked(sqlite_catalog, event(wire(identifier(StudyInstanceUID=""))))
    assert status.Status == 0xC001
    assert "catalog" in status.ErrorComment


def test_a_find_tells_once_which_studies_it_found_also_when_the_caller_goes_away(
    sqlite_catalog: Catalog,
) -> None:
    add_studies(sqlite_catalog, 3)
    told: list[set[str]] = []
    query = event(wire(identifier(StudyInstanceUID="", charset="ISO_IR 192", PatientName="山*")))

    def find() -> Any:
        return handle_find(
            query,
            sqlite_catalog,
            "HSM",
            reach,
            lambda found: told.append(set(found)),
        )

    assert len(list(find())) == 3
    assert told == [{"1.0", "1.1", "1.2"}]
    responses = find()
    next(responses)
    next(responses)
    responses.close()
    assert told[1] == {"1.0", "1.1"}


def test_a_find_of_very_many_studies_asks_for_none_of_them_in_particular(
    sqlite_catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hsm.dicom.find.TOLD_MAX", 2)
    add_studies(sqlite_catalog, 3)
    told: list[set[str]] = []
    query = event(wire(identifier(StudyInstanceUID="", charset="ISO_IR 192", PatientName="山*")))
    assert (
        len(
            list(
                handle_find(
                    query,
                    sqlite_catalog,
                    "HSM",
                    reach,
                    lambda f: told.append(set(f)),
                )
            )
        )
        == 3
    )
    assert len(told[0]) == 2
