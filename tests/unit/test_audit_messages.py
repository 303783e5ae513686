"""Records of the journal as DICOM audit messages: judged by the schema of PS3.15 section A.5.1."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone
from itertools import product
from pathlib import Path
from typing import Any

from lxml import etree

from hsm.catalog.journal import Entry
from hsm.trail.message import Message, Outcome
from hsm.trail.syslog import Origin, framed, message
from hsm.trail.translate import TRANSLATIONS, About, Translator

AT = datetime(2026, 3, 1, 12, 30, 5, 250_000, tzinfo=timezone(timedelta(hours=2)))
STUDY = "1.2.840.99.7"
CT = "1.2.840.10008.5.1.4.1.1.2"
SCHEMA = etree.RelaxNG(etree.parse(Path(__file__).parent.parent / "data" / "audit-message.rng"))
ODD = 'Mü<ller>&"^\x0b張 \x1b[2J'
DETAILS: dict[str, dict[str, Any]] = {
    "retrieved": {"to": "WS2", "how": "C-MOVE from CT1 to WS2", "instances": 2, "bytes": 9},
    "retrieve begun": {"to": "CT1", "how": "C-GET from CT1"},
    "queried": {
        "sop_class": "1.2.840.10008.5.1.4.1.2.2.1",
        "level": "STUDY",
        "keys": ["PatientName"],
        "matches": 3,
        "identifier": base64.b64encode(b"PatientName=" + ODD.encode()).decode(),
        "transfer_syntax": "1.2.840.10008.1.2",
    },
    "export failed": {"studies": [STUDY], "error": f"no room {ODD}"},
    "export done": {"studies": [STUDY, "1.2.840.99.8"]},
    "refused": {"act": "associate", "reason": ODD, "times": 3, "address": "10.0.0.9"},
    "hold placed": {"why": ODD},
    "read": {"subject": STUDY, "actor": ""},
}


def translator(*, patient_data: bool, known: bool = True) -> Translator:
    def look_up(uid: str) -> About | None:
        return About("CT1", "PAT-1", ODD, ((CT, 2),)) if known and uid == STUDY else None

    return Translator("HSM", "4711", look_up, patient_data, "Haus Süd")


def entry(kind: str, verb: str, actor: str = "ae:CT1", **detail: Any) -> Entry:
    subject = {"study": STUDY, "export": "/media/stick", "query": "STUDY"}.get(kind, "modalities")
    return Entry(7, AT, actor, verb, kind, subject, DETAILS.get(verb, {}) | detail)


def translated(of: Entry, **options: bool) -> Any:
    """The message as a tree, once the schema agreed."""
    make = translator(**({"patient_data": False} | options))
    found = make(of)
    assert found is not None
    tree = etree.fromstring(make.xml(found))
    assert SCHEMA.validate(tree), SCHEMA.error_log
    return tree


def event(tree: Any) -> str:
    return str(tree.find("EventIdentification/EventID").get("originalText"))


def participants(tree: Any) -> list[tuple[str, str, list[str]]]:
    return [
        (each.get("UserID"), each.get("UserIsRequestor"), [role.get("csd-code") for role in each])
        for each in tree.findall("ActiveParticipant")
    ]


def test_every_message_there_is_obeys_the_schema_whatever_peers_call_things() -> None:
    seen = set()
    for actor, patient_data, known in product(("ae:CT1", ODD, "seal"), (True, False), (True, False)):
        make = translator(patient_data=patient_data, known=known)
        for kind, verb in TRANSLATIONS:
            of = entry(kind, verb, actor)
            found = make(of)
            if found is not None:
                tree = etree.fromstring(make.xml(found))
                assert SCHEMA.validate(tree), (of, SCHEMA.error_log)
                seen.add(event(tree))
                requestors = [each for each in participants(tree) if each[1] == "true"]
                assert len(requestors) <= 1, "PS3.15 A.5.2: one of them at most"
    assert seen == {
        "Application Activity",
        "Audit Log Used",
        "Begin Transferring DICOM Instances",
        "DICOM Instances Accessed",
        "DICOM Instances Transferred",
        "DICOM Study Deleted",
        "Export",
        "Import",
        "Query",
        "Security Alert",
        "User Authentication",
    }


def test_a_schema_that_takes_everything_would_prove_nothing() -> None:
    tree = translated(entry("study", "retrieved"))
    del tree.find("EventIdentification").attrib["EventOutcomeIndicator"]
    assert not SCHEMA.validate(tree)
    tree = translated(entry("study", "retrieved"))
    tree.remove(tree.find("AuditSourceIdentification"))
    assert not SCHEMA.validate(tree)


def test_a_move_to_a_third_party_names_all_three_and_who_asked() -> None:
    tree = translated(entry("study", "retrieved"))
    assert event(tree) == "DICOM Instances Transferred"
    assert tree.find("EventIdentification").get("EventActionCode") == "R"
    assert tree.find("EventIdentification").get("EventDateTime") == "2026-03-01T10:30:05.250Z"
    assert participants(tree) == [
        ("HSM", "false", ["110153"]),
        ("WS2", "false", ["110152"]),
        ("CT1", "true", []),
    ]
    (study,) = tree.findall("ParticipantObjectIdentification")
    assert (study.get("ParticipantObjectID"), study.find("ParticipantObjectIDTypeCode").get("csd-code")) == (
        STUDY,
        "110180",
    )
    described = study.find("ParticipantObjectDescription/SOPClass")
    assert (described.get("UID"), described.get("NumberOfInstances")) == (CT, "2")


def test_what_a_modality_stores_begins_and_ends_with_it_as_the_source() -> None:
    begun, ended = translated(entry("study", "received")), translated(entry("study", "sealed", "seal"))
    assert [event(each) for each in (begun, ended)] == [
        "Begin Transferring DICOM Instances",
        "DICOM Instances Transferred",
    ]
    for each in (begun, ended):
        assert participants(each) == [("CT1", "true", ["110153"]), ("HSM", "false", ["110152"])]
    assert event(translated(entry("study", "received", "alice"))) == "Import"
    assert translator(patient_data=False)(entry("study", "sealed", "alice")) is None


def test_patients_and_queries_are_named_only_where_that_is_configured() -> None:
    for of in (entry("study", "retrieved"), entry("query", "queried"), entry("study", "received")):
        plain, told = translator(patient_data=False), translator(patient_data=True)
        without, full = plain.xml(_message(plain, of)), told.xml(_message(told, of))
        assert "PAT-1" not in without
        assert "ParticipantObjectQuery" not in without
        assert "PAT-1" in full or "ParticipantObjectQuery" in full
    tree = translated(entry("query", "queried"), patient_data=True)
    query = base64.b64decode(tree.findtext("ParticipantObjectIdentification/ParticipantObjectQuery"))
    assert query.decode().endswith(ODD)
    people = translated(entry("study", "retrieved"), patient_data=True)
    patient = people.findall("ParticipantObjectIdentification")[-1]
    assert (patient.get("ParticipantObjectTypeCodeRole"), patient.get("ParticipantObjectID")) == (
        "1",
        "PAT-1",
    )


def _message(make: Translator, of: Entry) -> Message:
    found = make(of)
    assert found is not None
    return found


def test_a_refused_peer_is_a_security_alert_with_its_address_and_what_it_wanted() -> None:
    tree = translated(entry("access", "refused", "ae:EVIL"))
    assert event(tree) == "Security Alert"
    assert tree.find("EventIdentification/EventTypeCode").get("csd-code") == "110126"
    assert tree.find("EventIdentification").get("EventOutcomeIndicator") == Outcome.MINOR.value
    stranger = tree.findall("ActiveParticipant")[1]
    assert (stranger.get("UserID"), stranger.get("NetworkAccessPointID")) == ("EVIL", "10.0.0.9")
    detail = tree.find("ParticipantObjectIdentification/ParticipantObjectDetail")
    assert detail.get("type") == "Alert Description"
    assert base64.b64decode(detail.get("value")).decode().endswith("(3 times)")
    act = translated(entry("access", "refused", "bob", act="DELETE /v1/studies"))
    assert act.find("EventIdentification/EventTypeCode").get("csd-code") == "110132"


def test_the_archives_inner_life_is_no_audit_message() -> None:
    make = translator(patient_data=True)
    for kind, verb in (("request", "queued"), ("study", "copy verified"), ("volume", "anchored")):
        assert make(entry(kind, verb)) is None


def test_a_retention_day_changes_an_object_s_security_whatever_the_day() -> None:
    tree = translated(entry("study", "retained until 20390101", "alice", why="law"))
    assert tree.find("EventIdentification/EventTypeCode").get("originalText").startswith("Object Security")


ORIGIN = Origin(10, "archive.example", "hsm", "4711", '1.0 "x]')


def test_a_syslog_message_has_the_header_of_rfc_5424_and_a_byte_order_mark() -> None:
    data = message(ORIGIN, 5, AT, "DICOM+RFC3881", 12, "<AuditMessage/>")
    head, _, body = data.partition(b"\xef\xbb\xbf")
    assert head.decode("ascii") == (
        "<85>1 2026-03-01T10:30:05.250Z archive.example hsm 4711 DICOM+RFC3881 "
        '[meta sequenceId="12"][origin software="hsm" swVersion="1.0 \\"x\\]"] '
    )
    assert body == b"<AuditMessage/>"
    assert framed(data) == b"%d " % len(data) + data


def test_names_that_no_header_can_hold_are_made_fit() -> None:
    odd = Origin(10, "h\xf6st name\n", "", "p" * 200, "1")
    head = message(odd, 5, datetime(2026, 1, 1, tzinfo=UTC), "id with spaces", 2**31 - 1 + 5, "t")
    fields = head.split(b" ")
    assert fields[2:6] == [b"hstname", b"-", b"p" * 128, b"idwithspaces"]
    assert b'sequenceId="5"' in head


def test_who_cannot_say_who_he_is_failed_to_log_in_and_a_lock_out_is_graver() -> None:
    def said(tree: Any) -> tuple[str, str, str]:
        identification = tree.find("EventIdentification")
        kind = identification.find("EventTypeCode").get("csd-code")
        return event(tree), kind, identification.get("EventOutcomeIndicator")

    token = {"act": "come in", "reason": "its token is not known", "times": 1, "address": "10.0.0.9"}
    failed = translated(entry("access", "refused", "unknown", **token))
    assert said(failed) == ("User Authentication", "110122", "4")
    assert participants(failed) == [("unknown", "true", []), ("HSM", "false", [])]
    assert failed.find("ActiveParticipant").get("NetworkAccessPointID") == "10.0.0.9"
    assert failed.findall("ParticipantObjectIdentification") == []
    locked = "its token is not known; locked out for 300 s after 5 failures"
    assert said(translated(entry("access", "refused", **(token | {"reason": locked}))))[2] == "8"
    user = translated(entry("access", "refused", act="log in", reason="wrong passcode"))
    assert said(user) == ("User Authentication", "110122", "4")
    tls = translated(entry("access", "refused", act="connect", reason="no certificate"))
    assert said(tls) == ("Security Alert", "110126", "4")
    came = translated(entry("access", "came in", "eve (token night)", address="10.0.0.9"))
    assert said(came) == ("User Authentication", "110122", "0")
    flood = translated(entry("access", "came in", "eve (token night)", addresses="many", times=40))
    assert said(flood) == ("User Authentication", "110122", "0")
    described = flood.find("EventIdentification/EventOutcomeDescription")
    assert described.text == "40 logins from many addresses"
    assert flood.find("ActiveParticipant").get("NetworkAccessPointID") is None
    roles = translated(entry("access", "roles changed", "configuration", changed={}))
    assert said(roles) == ("Security Alert", "110136", "0")
