"""Audit messages to real syslog servers: rsyslog over TLS, and servers that hang, refuse and go away."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from sqlalchemy import text

from hsm.catalog import journal
from hsm.catalog.engine import Catalog, open_engine
from hsm.catalog.journal import Wanted
from hsm.config.audit import AuditConfig
from hsm.trail import Trail, syslogsink, turn
from hsm.trail.shipper import Shipper
from tests.wire.wire_tls import Authority

RSYSLOG = shutil.which("rsyslogd") or shutil.which("rsyslogd", path="/usr/sbin:/usr/local/sbin")
SCHEMA = etree.RelaxNG(etree.parse(Path(__file__).parent.parent / "data" / "audit-message.rng"))
WAIT_SECONDS = 20.0

RSYSLOG_CONF = """\
global(workDirectory="{folder}" maxMessageSize="64k" defaultNetstreamDriver="gtls"
  defaultNetstreamDriverCAFile="{ca}" defaultNetstreamDriverCertFile="{certificate}"
  defaultNetstreamDriverKeyFile="{key}")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="{who}")
template(name="raw" type="string" string="%rawmsg%\\n")
input(type="imtcp" address="127.0.0.1" port="{port}" listenPortFileName="{folder}/port")
*.* action(type="omfile" file="{folder}/got" template="raw" asyncWriting="off" flushInterval="1")
"""


def eventually(look: Callable[[], Any]) -> Any:
    until = time.monotonic() + WAIT_SECONDS
    while not (found := look()):
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)
    return found


class Rsyslog:
    """A real server that wants our certificate."""

    def __init__(
        self, folder: Path, authority: Authority, port: int = 0, certificate: str = "archive"
    ) -> None:
        if RSYSLOG is None:
            pytest.skip("rsyslogd is not installed (Debian: rsyslog, rsyslog-gnutls)")
        folder.mkdir(exist_ok=True)
        self._folder = folder
        config = folder / "rsyslog.conf"
        config.write_text(
            RSYSLOG_CONF.format(
                folder=folder,
                ca=authority.ca,
                certificate=authority.certificate(certificate),
                key=authority.key(certificate),
                who="x509/certvalid",
                port=port,
            )
        )
        (folder / "port").unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [RSYSLOG, "-n", "-f", config, "-i", folder / "pid"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self._wanted = port
        try:
            self.port = int(eventually(self._said))
        except BaseException:
            self.kill()
            raise

    def _said(self) -> str:
        if self._process.poll() is not None:
            raise AssertionError(self._process.stderr.read().decode())  # type: ignore[union-attr]
        with contextlib.suppress(OSError):
            if self._wanted:  # it writes down only a port that it has chosen
                socket.create_connection(("127.0.0.1", self._wanted)).close()
                return f"{self._wanted}"
            return (self._folder / "port").read_text()
        return ""

    @property
    def got(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return (self._folder / "got").read_text(errors="replace").splitlines()
        return []

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stderr.close()  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    found = Authority(tmp_path_factory.mktemp("syslog-tls"))
    found.issue("expired", days=-1)
    found.issue("other-host", dns=("elsewhere.example",), addresses=("192.0.2.1",))
    return found


@pytest.fixture
def rsyslog(tmp_path: Path, authority: Authority) -> Iterator[Rsyslog]:
    server = Rsyslog(tmp_path / "server", authority)
    yield server
    server.kill()


_MADE: list[Shipper] = []


@pytest.fixture(autouse=True)
def _shippers_stop() -> Iterator[None]:
    yield
    while _MADE:
        _MADE.pop().stop()


def trail(catalog: Catalog, home: Path, port: int, authority: Authority | None, **changes: Any) -> Shipper:
    options: dict[str, Any] = {"host": "127.0.0.1", "port": port, "seconds_max": 2}
    if authority is not None:
        certificate, key = authority.certificate("peer"), authority.key("peer")
        options |= {"ca": authority.ca, "certificate": certificate, "key": key}
    config = AuditConfig.model_validate({"syslog": options | changes})
    (shipper,) = Trail(catalog, config, "HSM", home, "1.0").shippers
    _MADE.append(shipper)
    return shipper


def append(catalog: Catalog, first: int, count: int) -> None:
    with catalog.write() as session:
        for number in range(first, first + count):
            uid = f"1.2.{number}"
            journal.append(session, catalog.clock.now(), "ae:CT1", "received", "study", uid, {})


def studies(lines: list[str]) -> list[str]:
    """Of the messages that came, each judged by the schema."""
    found = []
    for line in lines:
        head, _, body = line.partition("\N{ZERO WIDTH NO-BREAK SPACE}")
        assert head.startswith("<85>1 2026-")
        assert " DICOM+RFC3881 [meta sequenceId=" in head
        tree = etree.fromstring(body)
        assert SCHEMA.validate(tree), SCHEMA.error_log
        found.append(tree.find("ParticipantObjectIdentification").get("ParticipantObjectID"))
    return found


def test_rsyslog_gets_every_message_over_tls_in_order_and_after_its_own_death_too(
    sqlite_catalog: Catalog, rsyslog: Rsyslog, authority: Authority, tmp_path: Path
) -> None:
    append(sqlite_catalog, 1, 30)
    shipper = trail(sqlite_catalog, tmp_path / "home", rsyslog.port, authority)
    assert shipper.step() == 30
    wanted = [f"1.2.{number}" for number in range(1, 31)]
    eventually(lambda: len(rsyslog.got) >= 30)
    assert studies(rsyslog.got) == wanted
    rsyslog.kill()
    append(sqlite_catalog, 31, 5)
    for _ in range(2):
        assert shipper.step() == 0
    assert "wait" in shipper.problems()[0]
    again = Rsyslog(tmp_path / "server", authority, rsyslog.port)
    try:
        eventually(lambda: shipper.step() or not shipper.problems())
        eventually(lambda: "1.2.35" in "".join(again.got))
        got = studies(again.got)
        assert list(dict.fromkeys(got)) == [f"1.2.{number}" for number in range(1, 36)]
        assert shipper.problems() == []
    finally:
        again.kill()


@pytest.mark.campaign
def test_after_a_restart_it_goes_on_from_what_has_settled(
    sqlite_catalog: Catalog,
    rsyslog: Rsyslog,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hsm.trail.syslogsink.SETTLED_SECONDS", 0.0)
    append(sqlite_catalog, 1, 3)
    shipper = trail(sqlite_catalog, tmp_path / "home", rsyslog.port, authority)
    shipper.step()
    shipper.step()  # nothing new: what was sent has settled
    append(sqlite_catalog, 4, 2)
    second = trail(sqlite_catalog, tmp_path / "home", rsyslog.port, authority)
    assert second.step() == 2
    eventually(lambda: len(rsyslog.got) >= 5)
    assert studies(rsyslog.got) == [f"1.2.{number}" for number in range(1, 6)]


@pytest.mark.parametrize(
    ("certificate", "changes", "said"),
    [
        ("expired", {}, "certificate has expired"),
        ("other-host", {}, "IP address mismatch"),
        ("other-host", {"check_host": False}, ""),
    ],
)
def test_a_server_that_is_not_who_it_should_be_gets_nothing(
    sqlite_catalog: Catalog, authority: Authority, tmp_path: Path, certificate: str, changes: Any, said: str
) -> None:
    with Listener(authority, certificate) as server:
        append(sqlite_catalog, 1, 1)
        shipper = trail(sqlite_catalog, tmp_path, server.port, authority, **changes)
        assert shipper.step() == (0 if said else 1)
        assert [said in each for each in shipper.problems()] == ([True] if said else [])
        if not said:
            eventually(lambda: b"1.2.1" in server.got)
        assert said == "" or b"1.2.1" not in server.got


def test_a_stranger_s_authority_and_a_certificate_that_we_lack_are_said(
    sqlite_catalog: Catalog, authority: Authority, tmp_path: Path
) -> None:
    strangers = Authority(tmp_path / "strangers", "Somebody else")
    append(sqlite_catalog, 1, 2)
    with Listener(authority, "archive") as server:
        shipper = trail(sqlite_catalog, tmp_path, server.port, strangers)
        assert shipper.step() == 0
        assert "its certificate is not good" in shipper.problems()[0]
        # We show none, and the server wants one: with TLS 1.3 it says so only after we have written.
        bare = trail(sqlite_catalog, tmp_path, server.port, None, ca=authority.ca)
        eventually(lambda: bare.step() == 0 and bare.problems())
        assert "1.2.1" not in server.got.decode(errors="replace")
        assert not (tmp_path / "audit").exists(), "nothing counts as sent"


def test_a_file_of_ours_that_is_missing_is_named(
    sqlite_catalog: Catalog, authority: Authority, tmp_path: Path
) -> None:
    with Listener(authority) as server:
        append(sqlite_catalog, 1, 1)
        shipper = trail(sqlite_catalog, tmp_path, server.port, None, ca=tmp_path / "none.pem")
        assert shipper.step() == 0
        assert str(tmp_path / "none.pem") in shipper.problems()[0]


def test_a_server_that_takes_a_connection_and_nothing_else_is_given_up_in_time(
    sqlite_catalog: Catalog, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as hanging:
        port = hanging.getsockname()[1]
        append(sqlite_catalog, 1, 1)
        tls = trail(sqlite_catalog, tmp_path / "tls", port, None, seconds_max=0.3)
        begun = time.monotonic()
        assert tls.step() == 0
        assert time.monotonic() - begun < WAIT_SECONDS / 2
        assert "does not answer in time" in tls.problems()[0]


@pytest.mark.campaign
def test_a_connection_that_ends_is_noticed_before_more_is_sent(
    sqlite_catalog: Catalog, tmp_path: Path
) -> None:
    with Listener(None) as server:
        append(sqlite_catalog, 1, 1)
        shipper = trail(sqlite_catalog, tmp_path, server.port, None, transport="tcp")
        assert shipper.step() == 1
        eventually(lambda: server.got)
        assert server.got.startswith(b"%d <85>1 " % (len(server.got) - len(server.got.split(b" ")[0]) - 1))
        server.drop()
        append(sqlite_catalog, 2, 1)
        eventually(lambda: shipper.step() == 0)
        eventually(lambda: shipper.step() == 2)
        eventually(lambda: server.got.count(b"1.2.2") >= 1)


def test_udp_sends_a_message_a_datagram(sqlite_catalog: Catalog, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(WAIT_SECONDS)
        append(sqlite_catalog, 1, 2)
        shipper = trail(sqlite_catalog, tmp_path, server.getsockname()[1], None, transport="udp")
        assert shipper.step() == 2
        for number in (1, 2):
            assert f"1.2.{number}".encode() in server.recv(65536)


@pytest.mark.campaign
def test_every_record_goes_as_json_where_that_is_wanted(sqlite_catalog: Catalog, tmp_path: Path) -> None:
    with Listener(None) as server:
        with sqlite_catalog.write() as session:
            at = sqlite_catalog.clock.now()
            journal.append(session, at, "seal", "queued", "request", "9", {"key": "x"})
        options = {"host": "127.0.0.1", "port": server.port, "transport": "tcp", "send": "every record"}
        config = AuditConfig.model_validate({"syslog": options, "patient_data": True})
        (shipper,) = Trail(sqlite_catalog, config, "HSM", tmp_path, "1.0").shippers
        _MADE.append(shipper)
        assert shipper.step() == 1
        eventually(lambda: b'"queued"' in server.got)
        assert b" hsm-journal [meta" in server.got
    with pytest.raises(ValueError, match="patient_data"):
        AuditConfig.model_validate({"syslog": options})


class Listener:
    """A server of the test's own: TLS that wants a certificate where there is an authority."""

    def __init__(self, authority: Authority | None, certificate: str = "archive") -> None:
        self._context = None
        if authority is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(authority.certificate(certificate), authority.key(certificate))
            self._context.load_verify_locations(authority.ca)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.got = b""
        self._peers: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.drop()
        self._thread.join(WAIT_SECONDS)

    def drop(self) -> None:
        for each in self._peers:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            peer.settimeout(WAIT_SECONDS)
            try:
                peer = self._context.wrap_socket(peer, server_side=True) if self._context else peer
                self._peers.append(peer)
                while data := peer.recv(65536):
                    self.got += data
            except OSError:
                pass
            finally:
                peer.close()


@pytest.mark.campaign
def test_one_of_several_nodes_streams_and_another_takes_over_where_it_left_off(
    pg_catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn, "TRY_SECONDS", 0.0)
    monkeypatch.setattr(syslogsink, "SETTLED_SECONDS", 0.0)
    with Listener(None) as server:
        config = AuditConfig.model_validate(
            {"syslog": {"host": "127.0.0.1", "port": server.port, "transport": "tcp"}}
        )
        others = Catalog(open_engine(pg_catalog.engine.url.render_as_string(False)), pg_catalog.clock)
        first, second = (
            Trail(each, config, "HSM", tmp_path / name, "1").shippers[0]
            for each, name in ((pg_catalog, "a"), (others, "b"))
        )

        def streamed() -> list[int]:
            return [int(each) for each in re.findall(rb'sequenceId="(\d+)"', server.got)]

        def append(count: int) -> None:
            with pg_catalog.write() as session:
                at = pg_catalog.clock.now()
                subjects = [(f"1.2.{number}", {"why": ""}) for number in range(count)]
                journal.append_many(session, at, "alice", "hold placed", "study", subjects)

        append(5)
        assert (first.step(), second.step()) == (5, 0)
        assert second.standing().elsewhere
        eventually(lambda: streamed() == [1, 2, 3, 4, 5])
        monkeypatch.setattr(turn, "NOTE_SECONDS", 0.0)
        first.step()  # what has settled is noted, as record 6
        append(3)
        assert second.step() == 0, "the first one holds the lock"
        with others.write() as session:  # its machine dies: the database ends its session
            session.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND"
                    " database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                )
            )
        eventually(lambda: second.step() > 0)
        eventually(lambda: streamed()[5:] == [7, 8, 9])
        assert first.step() == 0, "it has lost its lock, says so, and does not stream beside the other"
        append(1)
        assert (first.step(), second.step() > 0) == (0, True)
        second.stop()  # in peace: it notes how far it is, and lets go
        append(1)
        eventually(lambda: first.step() > 0)
        first.step()
        said = eventually(lambda: streamed() if len(streamed()) >= 10 else [])
        with pg_catalog.read() as session:
            told = [each.seq for each in journal.find(session, Wanted(verb="hold placed"), 100)]
        assert sorted(set(said)) == sorted(told), "nothing is lost"
        first.stop()
        others.close()
