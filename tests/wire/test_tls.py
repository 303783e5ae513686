"""DICOM over TLS: who gets in and who does not, and that nobody is kept waiting by who does not."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import build_context
from wire_fakes import CT, EXPLICIT, IMPLICIT, TEST_FILES, quick_config, small_dataset, stored
from wire_peers import (
    STUDY_FIND,
    STUDY_MOVE,
    VERIFICATION,
    Move,
    associate_rq,
    associated,
    counts,
    send_raw,
    study_identifier,
)
from wire_tls import DAY, Authority
from wire_world import Receiver, Running, StartServer, eventually

from hsm.dicom.secure import names_of
from hsm.errors import ConfigError
from tests.story.archive import free_port

DCMTK = ("echoscu", "storescu", "findscu", "movescu", "getscu", "storescp")
FILES = [TEST_FILES / name for name in ("CT_small.dcm", "MR_small.dcm")]


@pytest.fixture
def secure(start_server: StartServer, tls: Authority) -> Running:
    """An archive with both ports that asks for certificates."""
    made = start_server(tls=tls.settings())
    made.context = tls.client()
    return made


@pytest.fixture
def dcmtk() -> None:
    missing = [tool for tool in DCMTK if shutil.which(tool) is None]
    if (
        not missing
        and "OpenSSL" not in subprocess.run(["storescu", "--version"], capture_output=True, text=True).stdout
    ):
        missing = ["DCMTK with OpenSSL"]
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"not installed: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def scu(
    tool: str, archive: Running, tls: Authority, *words: str | Path, name: str | None = "peer"
) -> subprocess.CompletedProcess[str]:
    """A client of DCMTK over TLS, with this certificate or with none."""
    own = ["+tla"] if name is None else ["+tls", tls.key(name), tls.certificate(name)]
    return _run(tool, "-v", *own, "+cf", tls.ca, *_to(archive.server.tls_port), *words)


def _run(*command: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    words = list(map(str, command))
    return subprocess.run(
        words, capture_output=True, text=True, timeout=60, check=False, cwd=folder, encoding="latin-1"
    )


def _to(port: int) -> list[str]:
    return ["-aet", "DCMTK", "-aec", "HSM", "127.0.0.1", str(port)]


@contextlib.contextmanager
def tunnel(archive: Running, context: ssl.SSLContext) -> Iterator[int]:
    """A plain port that leads to the archive's TLS port, as stunnel makes one: DCMTK's movescu and getscu
    speak no TLS themselves. For one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def carry() -> None:
            plain, _ = listener.accept()
            secure = context.wrap_socket(
                socket.create_connection(("127.0.0.1", archive.server.tls_port)), server_hostname="localhost"
            )
            with plain, secure:
                _carry(plain, secure)

        thread = threading.Thread(target=carry)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join(10)


def _carry(plain: socket.socket, secure: ssl.SSLSocket) -> None:
    """One thread: an SSL object is not for two."""
    while True:
        ready = [secure] if secure.pending() else select.select([plain, secure], [], [], 10)[0]
        for source, target in ((plain, secure), (secure, plain)):
            if source in ready:
                try:
                    data = source.recv(1 << 16)
                except OSError:
                    data = b""
                if not data:
                    return
                target.sendall(data)
        if not ready:
            return


def echoes(archive: Running, context: ssl.SSLContext, calling: str = "WS1") -> bool:
    """Whether an association over TLS comes about and its C-ECHO is answered."""
    arguments = (archive.server.tls_port, [(VERIFICATION, [IMPLICIT])])
    with associated(*arguments, calling=calling, tls=context) as assoc:
        return bool(assoc.is_established and assoc.send_c_echo().Status == 0)


# With DCMTK.


@pytest.mark.usefixtures("dcmtk")
def test_dcmtk_echoes_and_stores_with_a_certificate(secure: Running, tls: Authority) -> None:
    assert scu("echoscu", secure, tls).returncode == 0
    done = scu("storescu", secure, tls, *FILES)
    assert done.returncode == 0, done.stderr
    assert len(secure.ingest.stored) == len(FILES)


@pytest.mark.usefixtures("dcmtk")
@pytest.mark.parametrize("profile", ["+py", "+px", "+pz"])
def test_dcmtks_security_profiles_of_bcp_195_are_understood(
    secure: Running, tls: Authority, profile: str
) -> None:
    done = scu("echoscu", secure, tls, profile)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("dcmtk")
def test_dcmtks_retired_profiles_get_nothing_that_is_too_weak(secure: Running, tls: Authority) -> None:
    assert scu("echoscu", secure, tls, "+pn").returncode != 0


@pytest.mark.usefixtures("dcmtk")
def test_dcmtk_without_a_certificate_is_refused_unless_none_is_required(
    start_server: StartServer, secure: Running, tls: Authority
) -> None:
    assert scu("storescu", secure, tls, *FILES, name=None).returncode != 0
    assert secure.ingest.stored == {}
    for kind in ("optional", "none"):
        lenient = start_server(tls=tls.settings(client_certificate=kind))
        done = scu("storescu", lenient, tls, *FILES, name=None)
        assert done.returncode == 0, done.stderr
        assert len(lenient.ingest.stored) == len(FILES)


@pytest.mark.usefixtures("dcmtk")
def test_dcmtk_finds_and_gets_over_tls(secure: Running, tls: Authority, tmp_path: Path) -> None:
    assert scu("storescu", secure, tls, *FILES).returncode == 0
    found = scu("findscu", secure, tls, "-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID")
    assert found.returncode == 0, found.stderr
    study = next(each.header.study_uid for each in secure.ingest.stored.values())
    assert study in found.stderr + found.stdout
    keys = ("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}")
    with tunnel(secure, tls.client()) as port:
        done = _run("getscu", *_to(port), *keys, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.iterdir())) == 1


@contextlib.contextmanager
def storescp(tls: Authority, folder: Path, name: str = "peer") -> Iterator[int]:
    """DCMTK's storage SCP over TLS; its port."""
    port = free_port()
    command = [
        "storescp",
        "-od",
        folder,
        "+tls",
        tls.key(name),
        tls.certificate(name),
        "+cf",
        tls.ca,
        str(port),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: _answers(port))
            yield port
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.usefixtures("dcmtk")
def test_movescu_over_tls_sends_to_storescp_over_tls(
    start_server: StartServer, tls: Authority, tmp_path: Path
) -> None:
    with storescp(tls, tmp_path) as port:
        peer = {"ae_title": "DEST", "host": "127.0.0.1", "port": port, "tls": True}
        archive = start_server(tls=tls.settings(), aes=[peer])
        assert scu("storescu", archive, tls, *FILES).returncode == 0
        study = next(each.header.study_uid for each in archive.ingest.stored.values())
        keys = ("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}")
        with tunnel(archive, tls.client()) as plain:
            done = _run("movescu", "-aem", "DEST", *_to(plain), *keys)
        assert done.returncode == 0, done.stderr
        assert len(list(tmp_path.iterdir())) == 1


# Who gets in.


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_good_versions_of_tls_are_spoken(
    secure: Running, tls: Authority, version: ssl.TLSVersion
) -> None:
    assert echoes(secure, tls.client(version=version))


def test_tls_1_3_alone_can_be_demanded(start_server: StartServer, tls: Authority) -> None:
    archive = start_server(tls=tls.settings(profile="TLS 1.3"))
    assert echoes(archive, tls.client(version=ssl.TLSVersion.TLSv1_3))
    assert not echoes(archive, tls.client(version=ssl.TLSVersion.TLSv1_2))


def test_older_versions_and_weak_ciphers_are_refused(secure: Running, tls: Authority) -> None:
    old = tls.client()
    with pytest.warns(DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    assert not echoes(secure, old)
    for cipher in ("AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256", "DHE-RSA-AES128-GCM-SHA256"):
        weak = tls.client(version=ssl.TLSVersion.TLSv1_2)
        weak.set_ciphers(cipher)
        assert not echoes(secure, weak), cipher
    assert echoes(secure, tls.client())


def test_a_certificate_of_another_ca_or_one_that_is_not_valid_now_is_refused(
    secure: Running, tls: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "other")
    context = tls.client(None)
    context.load_cert_chain(stranger.certificate("peer"), stranger.key("peer"))
    assert not echoes(secure, context)
    tls.issue("late", days=-1)
    tls.issue("early", days=10, begins=timedelta(days=1))
    assert not echoes(secure, tls.client("late"))
    assert not echoes(secure, tls.client("early"))
    assert not echoes(secure, tls.client(None))
    assert echoes(secure, tls.client())


def test_the_plain_port_stays_open_beside_and_not_where_there_is_only_tls(
    start_server: StartServer, secure: Running, tls: Authority
) -> None:
    with associated(secure.port, [(VERIFICATION, [IMPLICIT])]) as assoc:
        assert assoc.send_c_echo().Status == 0
    alone = start_server(tls=tls.settings(only=True))
    assert alone.port == 0
    assert echoes(alone, tls.client())


def test_an_ae_that_must_come_over_tls_is_rejected_elsewhere(
    start_server: StartServer, tls: Authority
) -> None:
    peers = [
        {"ae_title": "WS1", "host": "127.0.0.1", "port": 104, "only_tls": True},
        {
            "ae_title": "WS2",
            "host": "127.0.0.1",
            "port": 104,
            "certificate_names": ["other", "WS2.Hospital.example"],
        },
    ]
    archive = start_server(tls=tls.settings(client_certificate="optional"), aes=peers)
    tls.issue("ws2", dns=("ws2.hospital.example",))
    for title in ("WS1", "WS2"):
        with associated(archive.port, [(VERIFICATION, [IMPLICIT])], calling=title) as assoc:
            assert assoc.is_rejected
            assert (assoc.acceptor.primitive.result, assoc.acceptor.primitive.result_source) == (1, 1)
    assert echoes(archive, tls.client(None), "WS1")
    assert not echoes(archive, tls.client(None), "WS2")
    assert not echoes(archive, tls.client("peer"), "WS2")
    assert echoes(archive, tls.client("ws2"), "WS2")


def test_the_names_of_a_certificate_are_its_common_dns_and_address_names() -> None:
    certificate: dict[str, Any] = {
        "subject": ((("organizationName", "Hospital"),), (("commonName", "CT1"),)),
        "subjectAltName": (
            ("DNS", "ct1.example"),
            ("IP Address", "10.1.2.3"),
            ("email", "a@b"),
            ("DNS", "CT1"),
        ),
    }
    assert names_of(certificate) == ("ct1", "ct1.example", "10.1.2.3")
    assert names_of({}) == ()


# Bad peers.


def test_slow_handshakes_and_garbage_keep_nobody_waiting(start_server: StartServer, tls: Authority) -> None:
    archive = start_server(tls=tls.settings(), max_associations=10, acse_timeout_seconds=3.0)
    address = ("127.0.0.1", archive.server.tls_port)
    silent = [socket.create_connection(address) for _ in range(8)]
    half = socket.create_connection(address)
    half.sendall(b"\x16\x03\x01\x02\x00\x01")
    for garbage in (
        associate_rq(),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\xff\xff" + bytes(500),
        bytes(2000),
    ):
        with socket.create_connection(address) as bad:
            bad.settimeout(10)
            with contextlib.suppress(ConnectionError):
                bad.sendall(garbage)
                while bad.recv(1000):
                    pass
    started = time.monotonic()
    assert echoes(archive, tls.client())
    assert time.monotonic() - started < 2.5, "nobody waits for those who shake no hands"
    for each in (*silent, half):
        each.settimeout(10)
        with each, contextlib.suppress(ConnectionError):
            while each.recv(1000):  # times out if they are not let go when their time is over
                pass


def test_handshakes_take_at_most_half_of_the_places(start_server: StartServer, tls: Authority) -> None:
    archive = start_server(tls=tls.settings(), max_associations=2)
    address = ("127.0.0.1", archive.server.tls_port)
    flood = [socket.create_connection(address) for _ in range(20)]
    eventually(lambda: len(archive.server._entrance._shaking) == 4)
    with associated(archive.port, [(VERIFICATION, [IMPLICIT])]) as assoc:
        assert assoc.send_c_echo().Status == 0
    for each in flood:
        each.close()
    eventually(lambda: not archive.server._entrance._shaking)
    assert echoes(archive, tls.client())


def test_a_stop_waits_for_no_handshake(start_server: StartServer, tls: Authority) -> None:
    archive = start_server(tls=tls.settings(), acse_timeout_seconds=60.0)
    with socket.create_connection(("127.0.0.1", archive.server.tls_port)) as silent:
        eventually(lambda: archive.server._entrance._shaking)
        started = time.monotonic()
        archive.server.stop(0.0)
        silent.settimeout(10)
        while silent.recv(1000):  # an alert
            pass
        assert time.monotonic() - started < 5


def test_a_tls_port_that_is_taken_is_told_and_leaves_nothing_behind(
    start_server: StartServer, tls: Authority
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        server = start_server().server
        again = type(server)(
            quick_config(tls=tls.settings(port=taken)),
            "HSM",
            *[None] * 6,
            server._clock,  # type: ignore[arg-type]
        )
        with pytest.raises(OSError, match="in use"):
            again.start()
        again.stop(0.0)


def test_a_peer_that_vanishes_in_the_middle_of_a_store_leaves_nothing(secure: Running) -> None:
    with secure.dial() as peer:
        peer.send(associate_rq([(CT, [EXPLICIT])]))
        assert peer.read_pdu()[0] == 2
        peer.send(b"\x04\x00\x00\x01\x00\x00half")
    eventually(lambda: not secure.server._server.active_associations)  # type: ignore[union-attr]
    assert secure.ingest.begun == secure.ingest.closed


def test_an_association_that_is_cut_in_mid_store_says_nothing_in_the_clear(
    secure: Running, tls: Authority
) -> None:
    """What a third party could have put between: after the cut only TLS records and the end may come."""
    plain, wire = socket.socketpair()
    outer = socket.create_connection(("127.0.0.1", secure.server.tls_port))
    seen = bytearray()
    pumps = [
        threading.Thread(target=_pump, args=(wire, outer, bytearray())),
        threading.Thread(target=_pump, args=(outer, wire, seen)),
    ]
    for pump in pumps:
        pump.start()
    peer = tls.client().wrap_socket(plain, server_hostname="localhost")
    peer.sendall(associate_rq([(CT, [EXPLICIT])]))
    peer.recv(1000)
    peer.sendall(b"\x09\x00\x00\x00\x00\x02xx")  # no such PDU: it aborts
    peer.settimeout(10)
    with contextlib.suppress(OSError):
        while peer.recv(1000):
            pass
    peer.close()
    for pump in pumps:
        pump.join(10)
    outer.close()
    wire.close()
    at = 0
    while at < len(seen):
        assert seen[at] in (20, 21, 22, 23), "a TLS record"
        at += 5 + int.from_bytes(seen[at + 3 : at + 5], "big")


def _pump(source: socket.socket, target: socket.socket, seen: bytearray) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            seen += data
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


# Sending.


def destination(port: int, **tls: Any) -> list[dict[str, Any]]:
    return [{"ae_title": "DEST", "host": "127.0.0.1", "port": port, "tls": tls or True}]


def moved(archive: Running) -> Any:
    """The final status of a C-MOVE of the one study to DEST."""
    with associated(archive.port, [(STUDY_MOVE, [EXPLICIT])]) as assoc:
        return Move(assoc, "DEST", study_identifier("1.2.3")).final()[0]


def fill(archive: Running, number: int, pixels: int = 300_000) -> None:
    for each in range(number):
        one = stored(small_dataset(f"1.2.3.{each}", pixels=pixels))
        archive.ingest.stored[one.header.sop_instance_uid] = one


def test_instances_go_out_over_tls_as_they_are_stored(
    start_server: StartServer, receiver: Receiver, tls: Authority
) -> None:
    port = receiver.start([(CT, [EXPLICIT])], tls.server())
    archive = start_server(tls=tls.settings(), aes=destination(port))
    fill(archive, 5)
    assert counts(moved(archive)) == (None, 5, 0, 0)
    assert {uid: data for uid, _, data in receiver.received} == {
        uid: each.dataset for uid, each in archive.ingest.stored.items()
    }


def test_a_destination_is_sent_to_over_tls_by_an_archive_that_has_no_tls_itself(
    start_server: StartServer, receiver: Receiver, tls: Authority
) -> None:
    port = receiver.start([(CT, [EXPLICIT])], tls.server(wants_certificate=False))
    archive = start_server(aes=destination(port, ca=str(tls.ca)))
    fill(archive, 1)
    assert counts(moved(archive)) == (None, 1, 0, 0)


@pytest.mark.parametrize(
    "problem", ["another host", "another CA", "expired", "not yet", "wants a certificate"]
)
def test_a_destination_that_cannot_be_trusted_gets_nothing_and_the_reason_is_told(
    start_server: StartServer, receiver: Receiver, tls: Authority, tmp_path: Path, problem: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    settings: dict[str, Any] = {"ca": str(tls.ca)}
    context: ssl.SSLContext | None = tls.server(wants_certificate=False)
    told = "certificate is not accepted"
    if problem == "another host":
        tls.issue("elsewhere", addresses=("10.9.9.9",))
        context = tls.server("elsewhere", wants_certificate=False)
    elif problem == "another CA":
        settings["ca"] = str(Authority(tmp_path / "other").ca)
    elif problem == "expired":
        tls.issue("expired", days=-1)
        context = tls.server("expired", wants_certificate=False)
    elif problem == "not yet":
        tls.issue("early", days=10, begins=timedelta(days=1))
        context = tls.server("early", wants_certificate=False)
    else:
        context, told = tls.server(), "certificate"
    port = receiver.start([(CT, [EXPLICIT])], context)
    archive = start_server(aes=destination(port, **settings), acse_timeout_seconds=2.0)
    fill(archive, 1)
    status = moved(archive)
    assert status.Status == 0xA702
    assert told in caplog.text + status.get("ErrorComment", "")
    assert receiver.received == []


def test_a_destination_that_speaks_no_tls_gets_nothing(
    start_server: StartServer, tls: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(1000)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=refuse)
        thread.start()
        archive = start_server(aes=destination(listener.getsockname()[1], ca=str(tls.ca)))
        fill(archive, 1)
        assert moved(archive).Status == 0xA702
        thread.join(10)
    assert "speaks no TLS" in caplog.text


def test_a_host_that_its_certificate_does_not_name_can_be_allowed_and_a_certificate_pinned(
    start_server: StartServer, receiver: Receiver, tls: Authority
) -> None:
    pinned, _ = tls.issue("pinned", addresses=("10.9.9.9",))
    port = receiver.start([(CT, [EXPLICIT])], tls.server("pinned", wants_certificate=False))
    archive = start_server(aes=destination(port, ca=str(pinned), check_host=False))
    fill(archive, 1)
    assert counts(moved(archive)) == (None, 1, 0, 0)


def test_instances_come_back_over_the_tls_association_of_a_get(secure: Running, tls: Authority) -> None:
    fill(secure, 4, pixels=2_000_000)
    from pynetdicom import evt
    from wire_peers import STUDY_GET

    got: dict[str, bytes] = {}

    def keep(event: Any) -> int:
        got[str(event.request.AffectedSOPInstanceUID)] = event.request.DataSet.getvalue()
        return 0

    contexts = [(STUDY_GET, [EXPLICIT]), (CT, [EXPLICIT])]
    with associated(
        secure.server.tls_port, contexts, scp_roles=[CT], handlers=[(evt.EVT_C_STORE, keep)], tls=tls.client()
    ) as assoc:
        del assoc._serve_request
        statuses = [status.Status for status, _ in assoc.send_c_get(study_identifier("1.2.3"), STUDY_GET)]
    assert statuses[-1] == 0
    assert got == {uid: each.dataset for uid, each in secure.ingest.stored.items()}


# Reload.


def test_a_reload_shows_the_new_certificate_and_standing_associations_go_on(
    start_server: StartServer, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "tls")
    archive = start_server(tls=authority.settings())
    with associated(archive.server.tls_port, [(CT, [EXPLICIT])], tls=authority.client()) as assoc:
        before = shown(archive, authority)
        authority.issue("archive", days=30)
        assert shown(archive, authority) == before, "files are read at a reload, not before"
        archive.server.reload(quick_config(tls=authority.settings()))
        assert shown(archive, authority) != before
        assert send_raw(assoc, CT, "1.2.9", small_dataset("1.2.9"), EXPLICIT).Status == 0


def test_a_reload_with_a_bad_certificate_changes_nothing(start_server: StartServer, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    archive = start_server(tls=authority.settings())
    before = shown(archive, authority)
    authority.key("archive").write_text("nothing")
    with pytest.raises(ConfigError, match=r"archive.key: holds no usable private key"):
        archive.server.reload(quick_config(tls=authority.settings(), unknown_aes=[]))
    assert shown(archive, authority) == before
    assert echoes(archive, authority.client()), "nor have the rights changed"


def test_certificates_that_end_soon_are_told_of(start_server: StartServer, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    archive = start_server(tls=authority.settings())
    assert archive.server.problems() == []
    certificate, _ = authority.issue("archive", days=12.5)
    assert f"{certificate} expires in 12 days" in archive.server.problems()[0]
    authority.issue("archive", days=-2.5)
    assert "expired on" in archive.server.problems()[0]
    authority.issue("archive", days=300, begins=DAY)
    assert "is not valid before" in archive.server.problems()[0]
    authority.issue("archive")
    assert archive.server.problems() == []


def shown(archive: Running, authority: Authority) -> bytes:
    """The certificate that the archive shows."""
    with socket.create_connection(("127.0.0.1", archive.server.tls_port)) as sock:
        with authority.client().wrap_socket(sock, server_hostname="localhost") as tls:
            return tls.getpeercert(binary_form=True) or b""


def test_a_query_over_tls_is_answered(secure: Running, tls: Authority) -> None:
    fill(secure, 1)
    with associated(secure.server.tls_port, [(STUDY_FIND, [EXPLICIT])], tls=tls.client()) as assoc:
        answers = list(_find(assoc))
    assert [status.Status for status, _ in answers] == [0xFF00, 0x0000]


def _find(assoc: Any) -> Any:
    del assoc._serve_request
    return assoc.send_c_find(study_identifier(""), build_context(STUDY_FIND).abstract_syntax)
