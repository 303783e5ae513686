"""User Identity Negotiation, PS3.7 section D.3.3.7."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

import pytest
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from wire_fakes import IMPLICIT, TEST_FILES, quick_config
from wire_peers import VERIFICATION, associated
from wire_tls import Authority
from wire_world import Running, StartServer

from hsm import lockout
from hsm.config import UserConfig
from hsm.dicom.identity import REMEMBERED_MAX, SECONDS_A_TRY, TRIES, Identities, Identity
from hsm.lockout import Throttle
from hsm.passcode import COST_MIN, Passcode, make


def _cheap(passcode: bytes) -> str:
    """As :func:`make`, at the lowest cost."""
    import hashlib

    salt = b"salt" * 4
    digest = hashlib.scrypt(passcode, salt=salt, n=1 << COST_MIN, r=8, p=1, dklen=32)
    return str(Passcode(COST_MIN, 8, 1, salt, digest))


USERS = [
    {"name": "anna", "passcode": _cheap(b"secret")},
    {"name": "jörg", "passcode": _cheap("paß".encode())},
    {"name": "dose"},
]
RIGHT = (2, b"anna", b"secret")
CONTEXTS = [(VERIFICATION, [IMPLICIT])]


def item(
    kind: int, primary: bytes, secondary: bytes = b"", *, answer: bool = False
) -> UserIdentityNegotiation:
    made = UserIdentityNegotiation()
    made.user_identity_type = kind
    made.primary_field = primary
    made.secondary_field = secondary
    made.positive_response_requested = answer
    return made


def outcome(archive: Running, given: UserIdentityNegotiation | None, calling: str = "WS1") -> Any:
    """True when an association came about; else result, source and reason of its rejection."""
    with associated(archive.port, CONTEXTS, calling=calling, user=given) as assoc:
        if assoc.is_established:
            assert assoc.send_c_echo().Status == 0
            return True
        assert assoc.is_rejected
        answer = assoc.acceptor.primitive
        return answer.result, answer.result_source, answer.diagnostic


REFUSED = (1, 2, 1)
LATER = (2, 3, 1)


@pytest.fixture
def demanding(start_server: StartServer) -> Running:
    return start_server(users=USERS, user_identity="required")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, REFUSED),
        (RIGHT, True),
        ((2, "jörg".encode(), "paß".encode()), True),
        ((1, b"dose"), True),
        ((2, b"anna", b"Secret"), REFUSED),
        ((2, b"anna", b"secret "), REFUSED),
        ((1, b"anna"), REFUSED),  # has a passcode, and did not say it
        ((2, b"dose", b"anything"), REFUSED),  # nobody could say whether it is right
        ((2, b"nobody", b"secret"), REFUSED),
        ((1, b""), REFUSED),
        ((2, b"\xff\xfe\n", b"x" * 5000), REFUSED),
        ((3, b"ticket"), REFUSED),
        ((4, b"<saml/>"), REFUSED),
        ((5, b"e30.e30."), REFUSED),
    ],
)
def test_required_lets_in_only_who_says_it_right(demanding: Running, given: Any, expected: Any) -> None:
    assert outcome(demanding, None if given is None else item(*given)) == expected


def test_optional_lets_in_who_says_nothing_but_nobody_who_says_it_wrong(start_server: StartServer) -> None:
    archive = start_server(users=USERS, user_identity="optional")
    assert outcome(archive, None) is True
    assert outcome(archive, item(*RIGHT)) is True
    assert outcome(archive, item(2, b"anna", b"wrong")) == REFUSED
    assert outcome(archive, item(4, b"<saml/>")) == REFUSED


def test_ignored_is_the_default_and_asks_nothing(archive: Running) -> None:
    assert outcome(archive, None) is True
    assert outcome(archive, item(2, b"anna", b"wrong", answer=True)) is True
    assert outcome(archive, item(3, b"ticket")) is True


def test_each_ae_has_its_own_rule_and_users(start_server: StartServer) -> None:
    place = {"host": "127.0.0.1", "port": 104}
    archive = start_server(
        users=USERS,
        user_identity="required",
        aes=[
            {"ae_title": "OLD", "user_identity": "ignored", **place},
            {"ae_title": "CT1", "users": ["dose"], **place},
        ],
    )
    assert outcome(archive, None, "OLD") is True
    assert outcome(archive, None, "CT1") == REFUSED
    assert outcome(archive, item(1, b"dose"), "CT1") is True
    assert outcome(archive, item(*RIGHT), "CT1") == REFUSED
    assert outcome(archive, item(*RIGHT), "OTHER") is True


@pytest.mark.parametrize("given", [RIGHT, (1, b"dose")])
def test_an_answer_is_given_when_it_is_asked_for_and_only_then(demanding: Running, given: Any) -> None:
    for wanted in (True, False):
        with associated(demanding.port, CONTEXTS, user=item(*given, answer=wanted)) as assoc:
            answer = assoc.acceptor.user_identity
            assert (answer is not None) is wanted
            assert answer is None or answer.server_response == b""


def test_a_user_who_is_refused_is_logged_with_the_reason_and_never_with_the_passcode(
    demanding: Running, caplog: pytest.LogCaptureFixture
) -> None:
    outcome(demanding, item(2, b"anna\x1b[31m\n", b"hunter2"))
    outcome(demanding, item(5, b"e30.e30."))
    assert "its user identity is wrong, given as 'anna\\x1b[31m" in caplog.text
    assert "a user identity by JWT is not supported" in caplog.text
    assert "hunter2" not in caplog.text


def test_who_guesses_is_held_off_and_others_by_right_answers_are_not(demanding: Running) -> None:
    for _ in range(3 * TRIES):
        assert outcome(demanding, item(*RIGHT)) is True
    found = [outcome(demanding, item(2, b"anna", b"%d" % number)) for number in range(TRIES + 2)]
    assert found == [REFUSED] * TRIES + [LATER] * 2
    assert outcome(demanding, item(*RIGHT)) == LATER, "nor is it told that this one was right"


def test_a_reload_changes_users_from_the_next_association_on(demanding: Running) -> None:
    assert outcome(demanding, item(*RIGHT)) is True
    changed = [{"name": "anna", "passcode": _cheap(b"other")}]
    demanding.server.reload(quick_config(users=changed, user_identity="required"))
    assert outcome(demanding, item(*RIGHT)) == REFUSED, "what was right before is not remembered as right"
    assert outcome(demanding, item(2, b"anna", b"other")) is True


def test_identity_and_tls_go_together(start_server: StartServer, tls: Authority) -> None:
    archive = start_server(tls=tls.settings(), users=USERS, user_identity="required")
    for given, expected in ((RIGHT, True), ((2, b"anna", b"wrong"), False)):
        with associated(archive.server.tls_port, CONTEXTS, user=item(*given), tls=tls.client()) as assoc:
            assert assoc.is_established is expected


@pytest.mark.skipif(shutil.which("storescu") is None and os.environ.get("CI") != "true", reason="no DCMTK")
def test_storescu_comes_with_a_user_and_hears_the_answer(demanding: Running) -> None:
    def store(*words: str) -> subprocess.CompletedProcess[str]:
        command = ["storescu", *words, "-aec", "HSM", "127.0.0.1", str(demanding.port)]
        command.append(str(TEST_FILES / "CT_small.dcm"))
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert store("-usr", "anna", "-pwd", "secret", "-rsp").returncode == 0
    assert store("-usr", "dose", "-rsp").returncode == 0
    assert len(demanding.ingest.stored) == 1
    for words in ((), ("-usr", "anna", "-pwd", "wrong"), ("-usr", "anna"), ("-usr", "anna", "-epw")):
        assert store(*words).returncode != 0


# Without a network.


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_tries_come_back_with_time_and_one_address_takes_none_from_another() -> None:
    clock = Time()
    throttle = Throttle(clock, TRIES, SECONDS_A_TRY)
    assert [throttle.take("a") for _ in range(TRIES + 1)] == [True] * TRIES + [False]
    assert throttle.take("b")
    clock.now += SECONDS_A_TRY * 2.5
    assert [throttle.take("a") for _ in range(3)] == [True, True, False]
    throttle.give_back("a")
    assert throttle.take("a")
    clock.now += 1e6
    assert [throttle.take("a") for _ in range(TRIES + 1)][-1] is False


def test_the_throttle_remembers_no_more_than_so_many_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockout, "ADDRESSES_MAX", 10)
    throttle = Throttle(Time(), TRIES, SECONDS_A_TRY)
    for number in range(100):
        throttle.take(str(number))
    assert len(throttle._left) == 10


def test_a_passcode_that_was_right_costs_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    config = quick_config(users=USERS, user_identity="required")
    judge = Identities(Time(), b"k" * 32)
    compared = 0
    matches = Passcode.matches

    def count(self: Passcode, passcode: bytes) -> bool:
        nonlocal compared
        compared += 1
        return matches(self, passcode)

    monkeypatch.setattr(Passcode, "matches", count)
    for _ in range(5):
        assert judge.judge(config, None, "a", Identity(*RIGHT)).user == "anna"
    assert compared == 1
    judge.judge(config, None, "a", Identity(2, b"nobody", b"x"))
    assert compared == 2, "who is not there takes as long"


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Passcode, "matches", lambda self, passcode: True)
    judge = Identities(Time(), b"k" * 32)
    config = quick_config(users=USERS, user_identity="required")
    for number in range(REMEMBERED_MAX + 50):
        judge.judge(config, None, "a", Identity(2, b"anna", b"%d" % number))
    assert len(judge._right) == REMEMBERED_MAX


def test_a_passcode_is_not_shown_with_its_user() -> None:
    kept = str(make(b"secret", b"s" * 16))
    assert kept not in repr(UserConfig(name="anna", passcode=kept))
