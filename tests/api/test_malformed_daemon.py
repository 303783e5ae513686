"""A whole daemon under malformed input at both of its listeners: the long form of test_api_malformed.

``HSM_MALFORMED`` is how many inputs each listener gets (10,000 for the long form), ``HSM_MALFORMED_SEED``
which ones.
"""

from __future__ import annotations

import os
import random
import re
import socket
import ssl
import time
from pathlib import Path

import pytest
from api_malformed import exchange, malformed, odd_authorization, statuses, with_token

from hsm import tokens
from hsm.api.arrivals import NAMED_A_MINUTE
from hsm.client import Client, Remote
from hsm.clock import SystemClock
from hsm.refusals import RECORDS_A_MINUTE
from hsm.tokens import Token
from tests.story.archive import CONFIG, KEEP, Archive, free_port
from tests.wire.wire_tls import Authority

INPUTS = int(os.environ.get("HSM_MALFORMED", "300"))
SEED = int(os.environ.get("HSM_MALFORMED_SEED", "11"))
GROWN_KIB_MAX = 64 << 10
SOCKETS_GROWN_MAX = 5
THREADS_GROWN_MAX = 45  # those of the pool that answers requests, which stay

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(7200)]


class _House(Archive):
    """An archive with both listeners."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.authority = Authority(home / "tls")
        self.api_port = free_port()
        files = f"certificate: {self.authority.certificate('archive')}, key: {self.authority.key('archive')}"
        tls = f"api:\n  tcp: {{{{port: {self.api_port}, {files}}}}}\n"
        super().__init__(home, f"sqlite:///{home}/catalog.db", KEEP, CONFIG + tls)
        self.token = tokens.new_token()
        made = Token("t", "t", "admin", tokens.digest_of(self.token), SystemClock().now(), None)
        tokens.add(home / "tokens.json", made)
        (home / "token").write_text(self.token)
        (home / "token").chmod(0o600)
        self.way = Remote(f"https://localhost:{self.api_port}", home / "token", self.authority.ca)

    def footprint(self) -> tuple[int, int, int]:
        """Kilobytes of memory, open sockets, threads."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        memory, threads = (re.search(rf"{name}:\s+(\d+)", status) for name in ("VmRSS", "Threads"))
        assert memory is not None and threads is not None
        return int(memory[1]), sum(map(_is_socket, Path(f"/proc/{self.pid}/fd").iterdir())), int(threads[1])

    def over_socket(self, content: bytes) -> list[int]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.home / "hsm.sock"))
            return statuses(exchange(connection, content))

    def over_tls(self, content: bytes, context: ssl.SSLContext, kind: int, source: str) -> list[int]:
        try:
            there = ("127.0.0.1", self.api_port)
            with socket.create_connection(there, source_address=(source, 0)) as plain:
                if kind == 0:
                    exchange(plain, content)
                    return []
                if kind == 1:
                    exchange(plain, b"\x16\x03\x01\x02\x00\x01" + content)
                    return []
                with context.wrap_socket(plain, server_hostname="localhost") as secure:
                    return statuses(exchange(secure, content, 0.2))
        except OSError:
            return []


def _is_socket(link: Path) -> bool:
    try:
        return str(link.readlink()).startswith("socket:")
    except OSError:  # closed meanwhile
        return False


def _wild(chance: random.Random) -> bytes:
    """Never an export that might find a place to write to: the daemon of a test may run as root."""
    while True:
        content = malformed(chance)
        if b"/v1/exports" not in content:
            return content


@pytest.fixture
def house(tmp_path: Path):
    found = _House(tmp_path / "home")
    found.start()
    yield found
    found.stop()


def _settled(house: _House, before: tuple[int, int, int]) -> tuple[int, int, int]:
    for _ in range(200):
        now = house.footprint()
        if now[1] <= before[1] + SOCKETS_GROWN_MAX:
            break
        time.sleep(0.1)
    return house.footprint()


def _check(house: _House, before: tuple[int, int, int]) -> None:
    after = _settled(house, before)
    print(f"memory, sockets, threads: before {before}, after {after}")
    assert after[0] - before[0] < GROWN_KIB_MAX
    assert after[1] - before[1] <= SOCKETS_GROWN_MAX
    assert after[2] - before[2] <= THREADS_GROWN_MAX
    log = (house.home / "daemon.log").read_text(errors="replace")
    assert "Traceback" not in log
    assert '"level": "error"' not in log.replace('"logger": "hsm.policyrun', "")
    assert house.process is not None and house.process.poll() is None


def test_the_socket_takes_malformed_input_and_the_daemon_serves_on(house: _House) -> None:
    chance = random.Random(SEED)
    counted: dict[int, int] = {}
    with Client(house.home / "hsm.sock") as client:
        for _ in range(50):
            house.over_socket(_wild(chance))
        before = house.footprint()
        for number in range(INPUTS):
            content = _wild(chance)
            found = house.over_socket(content)
            assert all(status < 500 or status == 503 for status in found), (number, found, content[:2000])
            for status in found:
                counted[status] = counted.get(status, 0) + 1
            if number % 100 == 0:
                assert client.health() == {"ok": True}
        assert client.status()
    print(f"{INPUTS} inputs of seed {SEED} on the socket: {dict(sorted(counted.items()))}")
    _check(house, before)


def test_tls_takes_malformed_input_and_the_daemon_serves_on(house: _House) -> None:
    chance = random.Random(SEED + 1)
    context = ssl.create_default_context(cafile=str(house.authority.ca))
    good = f"Authorization: Bearer {house.token}\r\n".encode()
    counted: dict[int, int] = {}
    sources: set[str] = set()
    began = time.monotonic()
    for _ in range(50):
        house.over_tls(with_token(_wild(chance), good), context, 2, "127.0.0.1")
    before = house.footprint()
    for number in range(INPUTS):
        header = good if number % 4 else odd_authorization(chance, house.token)
        content = with_token(_wild(chance), header)
        # From many places: one, from which requests come that lost their token, would soon be locked out.
        source = f"127.1.{chance.randrange(256)}.{chance.randrange(1, 255)}"
        sources.add(source)
        found = house.over_tls(content, context, number % 10, source)
        assert all(status < 500 or status == 503 for status in found), (number, found, content[:2000])
        assert header == good or not {200, 202} & set(found), (number, found, content[:2000])
        for status in found:
            counted[status] = counted.get(status, 0) + 1
    print(f"{INPUTS} inputs of seed {SEED} over TLS: {dict(sorted(counted.items()))}")
    assert counted.get(404), counted  # with a token they get further than the door
    house.ask(lambda client: client.status())
    _check(house, before)
    shown = house.ask(lambda client: client.audit_log(kind="access", limit=1000))
    refused = [record for record in shown if record["verb"] == "refused"]
    minutes = int((time.monotonic() - began) // 60)
    assert refused and len(refused) <= (RECORDS_A_MINUTE + 1) * (2 + minutes)  # a full bucket at the start
    logins = [record["detail"] for record in shown if record["verb"] == "came in"]
    named = [detail["address"] for detail in logins if "address" in detail]
    assert named and len(named) == len(set(named)) <= min(1 + len(sources), NAMED_A_MINUTE * (2 + minutes))
    assert len(logins) - len(named) <= 6 * (1 + minutes) + 1, "the rest is counted, once a flush"
