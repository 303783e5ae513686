"""The settings of DICOM listeners: what they come to, what is wrong with them, and what a reload changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cli.status import doors_of
from hsm.config import Config, DicomConfig, InvalidConfig, differences_needing_restart, kept_dicom, load

TLS = {"certificate": "/a.pem", "key": "/a.key", "ca": "/ca.pem"}
MODALITY = {"name": "modality", "port": 104}
WORKSTATION = {"name": "workstation", "port": 105, "tls": True}


def config(home: Path, **dicom: Any) -> Config:
    pools = [{"name": "online", "tier": "online", "options": {"path": str(home / "data")}}]
    given = {"home": home, "source": home / "hsm.yaml", "pools": pools, "dicom": dicom}
    return Config.model_validate(given)


def told(home: Path, text: str) -> list[tuple[str, str]]:
    """Place and message of every problem of a file with these DICOM settings."""
    path = home / "hsm.yaml"
    pools = "pools: [{name: online, tier: online, options: {path: data}}]\n"
    path.write_text(pools + "dicom:\n" + text, encoding="utf-8")
    with pytest.raises(InvalidConfig) as caught:
        load(path, {"HSM_HOME": str(home)}, files=False)
    return [(each.place, each.message) for each in caught.value.problems]


def test_a_listener_for_tls_takes_from_dicom_tls_what_it_does_not_name(tmp_path: Path) -> None:
    own = {"certificate": "/b.pem", "key": "/b.key", "client_certificate": "none"}
    found = config(
        tmp_path,
        tls={**TLS, "profile": "TLS 1.3"},
        listeners=[MODALITY, WORKSTATION, {"name": "partner", "port": 106, "tls": own}],
    )
    plain, workstation, partner = found.dicom.doors
    assert plain.tls is None
    assert workstation.tls is not None
    assert partner.tls is not None
    assert str(workstation.tls.certificate) == "/a.pem"
    assert str(partner.tls.certificate) == "/b.pem"
    assert str(partner.tls.ca) == "/ca.pem"
    assert (workstation.tls.client_certificate, partner.tls.client_certificate) == ("required", "none")
    assert workstation.tls.profile == partner.tls.profile == "TLS 1.3"


def test_listeners_come_back_from_json_as_they_were(tmp_path: Path) -> None:
    found = config(
        tmp_path,
        tls=TLS,
        listeners=[MODALITY | {"addresses": ["10.0.0.1", "10.1.0.0/16", "::1"]}, WORKSTATION],
        aes=[{"ae_title": "CT1", "host": "ct1", "port": 104, "addresses": ["ct1"], "move_to": ["CT1"]}],
    )
    back = Config.model_validate(json.loads(found.model_dump_json()))
    assert back.dicom == found.dicom
    assert back.dicom.doors == found.dicom.doors


BROKEN = [
    ("  listeners: [{port: 104}]\n", "dicom.listeners[0].name", "is missing; expected a name"),
    (
        "  listeners: [{name: a, port: 104}, {name: a, port: 105}]\n",
        "dicom.listeners[1].name",
        "comes before",
    ),
    (
        "  listeners: [{name: a, port: 104}, {name: b, port: 104}]\n",
        "dicom.listeners[1].port",
        "the same address and port as those of listener 'a'",
    ),
    ("  listeners: [{name: a, port: 1, may: []}]\n", "dicom.listeners[0].may", "nobody could do anything"),
    ("  listeners: [{name: a, port: 1, may: [stor]}]\n", "dicom.listeners[0].may[0]", "list of rights"),
    (
        "  listeners: [{name: a, port: 1, addresses: [10.0.0.1/8]}]\n",
        "dicom.listeners[0].addresses[0]",
        "has bits set behind its prefix",
    ),
    (
        "  listeners: [{name: a, port: 1, addresses: [ct1]}]\n",
        "dicom.listeners[0].addresses[0]",
        "expected an address or a network",
    ),
    (
        "  listeners: [{name: a, port: 1, tls: true}]\n",
        "dicom.listeners[0].tls",
        "has no certificate and key",
    ),
    (
        "  listeners: [{name: a, port: 1, tls: {certificate: a.pem}}]\n",
        "dicom.listeners[0].tls",
        "expected certificate and key, or neither",
    ),
    (
        "  listeners: [{name: a, port: 1, tls: {certificate: a.pem, key: a.key}}]\n",
        "dicom.listeners[0].tls",
        "client_certificate: required needs ca",
    ),
    (
        "  listeners: [{name: a, port: 1}]\n  tls: {certificate: a.pem, key: a.key, ca: ca.pem}\n"
        "  aes: [{ae_title: CT1, host: h, port: 1, only_tls: true}]\n",
        "dicom.aes[0].only_tls",
        "nobody can come over TLS: no listener has tls",
    ),
    (
        "  aes: [{ae_title: CT1, host: h, port: 1, move_to: [CT1, CT2]}]\n",
        "dicom.aes[0].move_to[1]",
        "'CT2' is not among dicom.aes",
    ),
    ("  unknown_move_to: [CT2]\n", "dicom.unknown_move_to[0]", "'CT2' is not among dicom.aes"),
    (
        "  aes: [{ae_title: CT1, host: h, port: 1, addresses: ['a b']}]\n",
        "dicom.aes[0].addresses[0]",
        "expected an address, a network",
    ),
    ("  source_address: storage.example\n", "dicom.source_address", "expected an IP address"),
    ("  lockout: {failures: 0}\n", "dicom.lockout.failures", "expected a whole number"),
    ("  lockout: {never: [localhost]}\n", "dicom.lockout.never[0]", "expected an address or a network"),
]


@pytest.mark.parametrize(("text", "place", "message"), BROKEN, ids=[place for _, place, _ in BROKEN])
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, place: str, message: str) -> None:
    found = told(tmp_path, text)
    assert {where for where, _ in found} == {place}, found
    assert any(message in text for _, text in found)


def test_the_same_port_on_another_address_is_another_door() -> None:
    doors = [MODALITY | {"listen": "10.1.0.5"}, {**MODALITY, "name": "b", "listen": "10.2.0.5"}]
    assert len(DicomConfig.model_validate({"listeners": doors}).doors) == 2


def test_more_listeners_than_sixteen_are_refused() -> None:
    with pytest.raises(ValidationError, match="at most 16"):
        DicomConfig.model_validate({"listeners": [{"name": f"a{n}", "port": 0} for n in range(17)]})


def test_a_reload_takes_over_who_may_do_what_and_names_what_moved(tmp_path: Path) -> None:
    old = config(tmp_path, tls=TLS, listeners=[MODALITY, WORKSTATION, {"name": "old", "port": 107}])
    looser = config(
        tmp_path,
        tls=TLS,
        listeners=[
            MODALITY | {"may": ["echo"], "addresses": ["10.0.0.0/8"], "max_associations": 2},
            WORKSTATION | {"tls": {"certificate": "/b.pem", "key": "/b.key"}},
            {"name": "old", "port": 107},
        ],
    )
    assert differences_needing_restart(old, looser) == []
    assert kept_dicom(old.dicom, looser.dicom) == looser.dicom
    moved = config(
        tmp_path,
        listeners=[
            MODALITY | {"port": 11112, "may": ["echo"]},
            {**WORKSTATION, "tls": None},
            {"name": "new", "port": 1},
        ],
    )
    assert differences_needing_restart(old, moved) == [
        "dicom.tls: removed",
        "dicom.listeners: new added, old removed, modality moved, workstation moved",
    ]
    kept = kept_dicom(old.dicom, moved.dicom)
    assert [(each.name, each.port, each.tls is not None) for each in kept.doors] == [
        ("modality", 104, False),
        ("workstation", 105, True),
        ("old", 107, False),
    ]
    assert kept.doors[0].may == {"echo"}


def test_from_one_form_to_the_other_needs_a_restart(tmp_path: Path) -> None:
    simple, several = config(tmp_path, port=104), config(tmp_path, port=104, listeners=[MODALITY])
    assert differences_needing_restart(simple, several) == ["dicom.listeners: added"]
    assert differences_needing_restart(several, simple) == ["dicom.listeners: removed"]
    assert kept_dicom(simple.dicom, several.dicom).doors == simple.dicom.doors
    assert kept_dicom(several.dicom, simple.dicom).doors == several.dicom.doors


def test_listeners_are_named_to_people_where_there_are_others_than_the_usual_two() -> None:
    plain = {"name": "dicom", "address": "h:1", "tls": False}
    secure = {"name": "dicom-tls", "address": "h:2", "tls": True}
    usual = {"dicom": "h:1", "dicom_tls": "h:2", "doors": [plain, secure]}
    assert doors_of(usual) == "h:1 and h:2 (TLS)"
    assert doors_of({**usual, "dicom_tls": None, "doors": [plain]}) == "h:1"
    named = [{**plain, "name": "modality"}, {**secure, "name": "workstation"}]
    assert doors_of({**usual, "doors": named}) == "h:1 (modality), h:2 (TLS) (workstation)"
