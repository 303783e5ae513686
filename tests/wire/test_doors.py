"""Separate DICOM listeners: who may do what through which, from where, and what becomes of those who try."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pynetdicom import evt
from wire_fakes import CT, EXPLICIT, IMPLICIT, quick_config, small_dataset
from wire_peers import (
    STUDY_FIND,
    STUDY_MOVE,
    VERIFICATION,
    Move,
    Raw,
    associate_rq,
    associated,
    pdata,
    send_raw,
    study_identifier,
)
from wire_tls import Authority
from wire_world import Receiver, Running, StartServer, eventually

from hsm.clock import ManualClock
from hsm.config import DicomConfig, LockoutConfig
from hsm.dicom.server import DicomServer
from hsm.lockout import Lockout, counted_by
from hsm.origin import Names, comes_from
from hsm.refusals import Refusal

NOT_AUTHORIZED = 0x0124
CONTEXTS = [(VERIFICATION, [IMPLICIT]), (CT, [EXPLICIT]), (STUDY_FIND, [IMPLICIT]), (STUDY_MOVE, [IMPLICIT])]
DOORS: list[dict[str, Any]] = [
    {"name": "modality", "port": 0, "may": ["echo", "store"]},
    {"name": "workstation", "port": 0, "may": ["echo", "find", "move"], "max_associations": 1},
]


class Noted(list[Refusal]):
    """Refusals, as they are told."""

    def about(self) -> set[tuple[str, str, str, str]]:
        return {(each.actor, each.door, each.act, each.reason) for each in self}


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Noted:
    """What the servers of the test refuse."""
    found = Noted()
    original = DicomServer.__init__

    def init(self: DicomServer, *args: Any, **more: Any) -> None:
        original(self, *args, **more, refused=found.append)

    monkeypatch.setattr(DicomServer, "__init__", init)
    return found


@pytest.fixture
def two(noted: Noted, start_server: StartServer) -> Running:
    return start_server(listeners=DOORS)


def door(archive: Running, name: str) -> int:
    return archive.server.ports[name]


def rejection(port: int, **more: Any) -> tuple[int, int, int] | None:
    """Result, source and reason; None where the association came about."""
    with associated(port, CONTEXTS, **more) as assoc:
        if assoc.is_established:
            return None
        answer: Any = assoc.acceptor.primitive
        return (answer.result, answer.result_source, answer.diagnostic)


def hung_up_on(port: int, source: str = "127.0.0.1") -> bool:
    with socket.socket() as sock:
        sock.settimeout(5)
        sock.bind((source, 0))
        sock.connect(("127.0.0.1", port))
        try:
            sock.sendall(associate_rq())
            return sock.recv(1) == b""
        except ConnectionError:
            return True


def test_each_listener_grants_its_own_rights_and_no_more(two: Running, noted: Noted) -> None:
    with associated(door(two, "modality"), CONTEXTS) as assoc:
        assert send_raw(assoc, CT, "1.2.1", small_dataset("1.2.1"), EXPLICIT).Status == 0
        [(status, _)] = assoc.send_c_find(study_identifier("1.2"), STUDY_FIND)
        assert status.Status == NOT_AUTHORIZED
        [(status, _)] = assoc.send_c_move(study_identifier("1.2"), "WS1", STUDY_MOVE)
        assert status.Status == NOT_AUTHORIZED
    with associated(door(two, "workstation"), CONTEXTS) as assoc:
        assert send_raw(assoc, CT, "1.2.2", small_dataset("1.2.2"), EXPLICIT).Status == NOT_AUTHORIZED
        assert assoc.send_c_echo().Status == 0
        *_, (status, _) = assoc.send_c_find(study_identifier("1.2"), STUDY_FIND)
        assert status.Status == 0
    assert list(two.ingest.stored) == ["1.2.1"]
    assert noted.about() == {
        ("WS1", "modality", "find", "WS1 may not find"),
        ("WS1", "modality", "move", "WS1 may not move"),
        ("WS1", "workstation", "store", "WS1 may not store"),
    }


def test_a_listener_that_is_full_keeps_nobody_out_of_the_others(two: Running, noted: Noted) -> None:
    with associated(door(two, "workstation"), CONTEXTS) as first:
        assert first.is_established
        assert rejection(door(two, "workstation")) == (2, 3, 2)
        assert rejection(door(two, "modality")) is None
    eventually(lambda: two.server.associations == 0)
    assert rejection(door(two, "workstation")) is None
    assert noted == [], "one too many is no wrong attempt"


def test_half_open_connections_at_one_listener_leave_room_at_the_others(start_server: StartServer) -> None:
    archive = start_server(listeners=DOORS, max_associations=10, acse_timeout_seconds=20.0)
    idle = [Raw(door(archive, "workstation")) for _ in range(12)]
    eventually(lambda: len(archive.server._running()) >= 4)
    assert len(archive.server._running()) <= 5
    assert rejection(door(archive, "modality")) is None
    for peer in idle:
        peer.sock.close()


def test_only_the_titles_of_a_listener_come_in_there(start_server: StartServer, noted: Noted) -> None:
    doors = [{**DOORS[0], "ae_titles": ["CT1"]}, DOORS[1]]
    archive = start_server(listeners=doors, aes=[ae("FINDER", may=["find"])])
    assert rejection(door(archive, "modality"), calling="CT1") is None
    assert rejection(door(archive, "modality"), calling="WS1") == (1, 1, 3)
    assert rejection(door(archive, "workstation"), calling="WS1") is None
    assert [(each.actor, each.door, each.act, each.address) for each in noted] == [
        ("WS1", "modality", "associate", "127.0.0.1")
    ]


def test_who_can_do_nothing_at_a_listener_does_not_come_in(start_server: StartServer) -> None:
    archive = start_server(listeners=DOORS, aes=[ae("STORER", may=["store"])])
    assert rejection(door(archive, "workstation"), calling="STORER") == (1, 1, 3)
    assert rejection(door(archive, "modality"), calling="STORER") is None


def test_connections_from_other_networks_are_hung_up_on(start_server: StartServer, noted: Noted) -> None:
    archive = start_server(listeners=[{**DOORS[0], "addresses": ["127.0.0.1", "10.0.0.0/8"]}])
    port = door(archive, "modality")
    assert not hung_up_on(port)
    assert hung_up_on(port, "127.0.0.2")
    assert {(each.act, each.address) for each in noted} == {("connect", "127.0.0.2")}


def ae(title: str, **more: Any) -> dict[str, Any]:
    return {"ae_title": title, "host": "127.0.0.1", "port": 104, **more}


def test_an_ae_comes_from_its_addresses_only(start_server: StartServer, noted: Noted) -> None:
    archive = start_server(
        aes=[
            ae("NEAR", addresses=["127.0.0.0/8"]),
            ae("NAMED", addresses=["10.9.8.7", "localhost"]),
            ae("FAR", addresses=["10.0.0.0/8", "192.168.7.7"]),
        ]
    )
    assert rejection(archive.port, calling="NEAR") is None
    assert rejection(archive.port, calling="NAMED") is None
    assert rejection(archive.port, calling="FAR") == (1, 1, 3)
    assert noted.about() == {("FAR", "dicom", "associate", "its address is not one of its AE title's")}


def test_an_ae_moves_to_its_destinations_only(
    start_server: StartServer, receiver: Receiver, noted: Noted
) -> None:
    there = {"host": "127.0.0.1", "port": receiver.start([(CT, [EXPLICIT])])}
    archive = start_server(
        aes=[
            ae("WS1", move_to=["PRINTER"]),
            ae("WS2"),
            {"ae_title": "PRINTER", **there, "may": ["echo"]},
            {"ae_title": "VAULT", **there, "may": ["echo"]},
        ],
        unknown_move_to=[],
    )
    with associated(archive.port, CONTEXTS) as assoc:
        send_raw(assoc, CT, "1.2.1", small_dataset("1.2.1"), EXPLICIT)
    study = archive.ingest.stored["1.2.1"].header.study_uid
    outcomes = {}
    for calling in ("WS1", "WS2", "STRANGER"):
        for destination in ("PRINTER", "VAULT", "NOBODY"):
            with associated(archive.port, CONTEXTS, calling=calling) as assoc:
                status, _ = Move(assoc, destination, study_identifier(study)).final()
            outcomes[calling, destination] = int(status.Status)
    assert outcomes == {
        ("WS1", "PRINTER"): 0,
        ("WS1", "VAULT"): NOT_AUTHORIZED,
        ("WS1", "NOBODY"): 0xA801,
        ("WS2", "PRINTER"): 0,
        ("WS2", "VAULT"): 0,
        ("WS2", "NOBODY"): 0xA801,
        ("STRANGER", "PRINTER"): NOT_AUTHORIZED,
        ("STRANGER", "VAULT"): NOT_AUTHORIZED,
        ("STRANGER", "NOBODY"): 0xA801,
    }
    assert ("WS1", "dicom", "move", "WS1 may not move to VAULT") in noted.about()
    assert len(receiver.received) == 3


def test_what_we_open_comes_from_the_source_address(start_server: StartServer, receiver: Receiver) -> None:
    seen: list[str] = []
    receiver.ae.require_called_aet = False
    port = receiver.start([(CT, [EXPLICIT])])
    receiver._server.bind(evt.EVT_CONN_OPEN, lambda event: seen.append(event.address[0]))
    archive = start_server(source_address="127.0.0.9", aes=[ae("DEST") | {"port": port}])
    with associated(archive.port, CONTEXTS) as assoc:
        send_raw(assoc, CT, "1.2.1", small_dataset("1.2.1"), EXPLICIT)
        study = archive.ingest.stored["1.2.1"].header.study_uid
        status, _ = Move(assoc, "DEST", study_identifier(study)).final()
    assert status.Status == 0
    assert seen == ["127.0.0.9"]


def test_an_address_that_is_refused_too_often_is_not_listened_to_for_a_while(
    start_server: StartServer, noted: Noted
) -> None:
    rule = {"failures": 3, "within_seconds": 60, "lasts_seconds": 0.5, "never": []}
    archive = start_server(lockout=rule)
    for _ in range(2):
        assert rejection(archive.port, called="OTHER") == (1, 1, 7)
    assert rejection(archive.port) is None, "two are not three"
    assert rejection(archive.port, called="OTHER") == (1, 1, 7)
    assert hung_up_on(archive.port)
    assert not hung_up_on(archive.port, "127.0.0.2"), "others are not concerned"
    eventually(lambda: not hung_up_on(archive.port), 3)
    reasons = [each.reason for each in noted]
    assert reasons.count("it called another AE title") == 3
    assert "locked out for 0.5 s after 3 failures" in reasons
    assert "its address is locked out" in reasons


def test_nonsense_counts_and_a_closed_connection_does_not(start_server: StartServer) -> None:
    archive = start_server(lockout={"failures": 4, "within_seconds": 60, "lasts_seconds": 60, "never": []})
    for _ in range(10):
        Raw(archive.port).sock.close()
    for nonsense in (b"\xff" * 100, pdata(1, 3, b"early"), associate_rq()[:6] + b"\0" * 500):
        with Raw(archive.port) as peer:
            peer.send_until_refused(nonsense)
            peer.stop_sending()
            peer.until_closed()
    assert rejection(archive.port) is None
    with Raw(archive.port) as peer:
        peer.send_until_refused(b"\xff" * 100)
        peer.until_closed()
    eventually(lambda: hung_up_on(archive.port), 3)


def test_an_address_makes_so_many_connections_a_second(start_server: StartServer, noted: Noted) -> None:
    archive = start_server(lockout={"connections_per_second": 0.8, "never": ["127.0.0.2"]})
    answers = [hung_up_on(archive.port) for _ in range(6)]
    assert answers == [False] * 4 + [True] * 2
    assert not any(hung_up_on(archive.port, "127.0.0.2") for _ in range(10))
    assert {each.reason for each in noted} == {"more than 0.8 connections a second from its address"}


def test_this_machine_is_not_locked_out_unless_that_is_wanted(archive: Running) -> None:
    for _ in range(LockoutConfig().failures or 0):
        archive.server._doorman.failed("dicom", "127.0.0.1")
    assert rejection(archive.port) is None


def test_a_lock_out_ends_and_addresses_do_not_share_it() -> None:
    clock = ManualClock()
    lockout = Lockout(clock.monotonic, LockoutConfig(failures=2, within_seconds=10, lasts_seconds=30))
    assert lockout.failed("10.0.0.1") == ""
    assert lockout.failed("10.0.0.1") == "locked out for 30 s after 2 failures"
    assert lockout.failed("10.0.0.1") == "", "it is said once"
    assert lockout.refuses("10.0.0.1")
    assert lockout.refuses("::ffff:10.0.0.1")
    assert not lockout.refuses("10.0.0.2")
    clock.advance(30)
    assert not lockout.refuses("10.0.0.1")


def test_slow_failures_never_lock_out() -> None:
    clock = ManualClock()
    lockout = Lockout(clock.monotonic, LockoutConfig(failures=5, within_seconds=60, lasts_seconds=300))
    for _ in range(100):
        assert lockout.failed("10.0.0.1") == ""
        clock.advance(15)


def test_an_ipv6_machine_is_counted_by_its_network() -> None:
    assert counted_by("2001:db8::1") == counted_by("2001:db8::ffff:2") == "2001:db8::/64"
    assert counted_by("2001:db8:0:1::1") != counted_by("2001:db8::1")
    assert counted_by("fe80::1%eth0") == "fe80::/64"
    assert counted_by("?") == "?"


def test_names_are_looked_up_once_a_minute_and_one_that_is_unknown_lets_nobody_in() -> None:
    clock, asked = ManualClock(), []

    def look_up(name: str) -> list[str]:
        asked.append(name)
        if name == "gone":
            raise OSError("no such host")
        return ["10.0.0.1", "2001:db8::1"]

    names = Names(clock.monotonic, look_up)
    for _ in range(3):
        assert comes_from("10.0.0.1", ["10.9.0.0/16", "ct1"], names)
        assert comes_from("2001:db8::1", ["ct1"], names)
        assert not comes_from("10.0.0.2", ["ct1", "gone"], names)
        assert not comes_from("nonsense", ["ct1"], names)
    assert asked == ["ct1", "gone"]
    clock.advance(61)
    assert comes_from("10.0.0.1", ["ct1"], names)
    assert asked == ["ct1", "gone", "ct1"]
    assert comes_from("10.9.1.1", ["ct2", "10.9.0.0/16"], names)
    assert asked == ["ct1", "gone", "ct1"], "a network needs no name"


def test_a_reload_changes_rights_and_addresses_of_a_listener_and_its_port_stays(
    two: Running,
) -> None:
    ports = two.server.ports
    two.server.reload(
        quick_config(listeners=[{**DOORS[0], "addresses": ["10.0.0.0/8"]}, {**DOORS[1], "may": ["find"]}])
    )
    assert two.server.ports == ports
    assert hung_up_on(ports["modality"])
    with associated(ports["workstation"], CONTEXTS) as assoc:
        assert assoc.send_c_echo().Status == NOT_AUTHORIZED


def test_listeners_for_tls_have_certificates_and_demands_of_their_own(
    start_server: StartServer, tls: Authority, tmp_path: Any
) -> None:
    other = Authority(tmp_path / "other", "Other CA")
    files = {key: str(path) for key, path in tls.settings().items() if key != "port"}
    theirs = {key: str(path) for key, path in other.settings().items() if key != "port"}
    listeners = [
        {"name": "plain", "port": 0, "may": ["echo"]},
        {"name": "ours", "port": 0, "tls": files},
        {"name": "theirs", "port": 0, "tls": theirs | {"client_certificate": "none"}},
    ]
    archive = start_server(listeners=listeners)

    def comes(name: str, context: Any) -> bool:
        with associated(door(archive, name), CONTEXTS, tls=context) as assoc:
            return bool(assoc.is_established)

    assert [comes("ours", tls.client()), comes("ours", tls.client(None))] == [True, False]
    assert [comes("theirs", other.client(None)), comes("theirs", tls.client())] == [True, False]
    assert comes("plain", None)
    other.issue("archive", dns=("renewed",))
    archive.server.reload(quick_config(listeners=listeners))
    with socket.create_connection(("127.0.0.1", door(archive, "theirs"))) as sock:
        with other.client(None).wrap_socket(sock, server_hostname="renewed"):
            pass
    assert comes("ours", tls.client()), "the other listener shows what it showed"


def test_wrong_certificates_are_told_with_door_and_reason(
    start_server: StartServer, tls: Authority, noted: Noted
) -> None:
    listeners = [
        {"name": "secure", "port": 0, "tls": {k: str(v) for k, v in tls.settings().items() if k != "port"}}
    ]
    archive = start_server(listeners=listeners)
    with associated(door(archive, "secure"), CONTEXTS, tls=tls.client(None)) as assoc:
        assert not assoc.is_established
    eventually(lambda: noted)
    assert noted.about() == {("unknown", "secure", "connect", "TLS: the other side shows no certificate")}


@pytest.fixture
def busy() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield int(other.getsockname()[1])


def test_a_listener_whose_port_is_taken_leaves_none_of_the_others_behind(
    start_server: StartServer, busy: int
) -> None:
    before = threading.active_count()
    with pytest.raises(OSError, match="in use"):
        start_server(listeners=[DOORS[0], {**DOORS[1], "port": busy}])
    assert threading.active_count() == before


def test_the_simple_form_is_the_doors_dicom_and_dicom_tls(tls: Authority) -> None:
    config = DicomConfig.model_validate({"port": 104, "tls": tls.settings(port=2762)})
    assert [(each.name, each.port, each.tls is not None) for each in config.doors] == [
        ("dicom", 104, False),
        ("dicom-tls", 2762, True),
    ]
