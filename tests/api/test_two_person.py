"""The two-person rule: asked for by one, agreed to by another, executed once, just as it was shown."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from api_callers import Answer, call
from api_world import Script, services
from sqlalchemy import text, update
from sqlalchemy.exc import IntegrityError
from typer.testing import CliRunner

from cli.main import app as command_line
from hsm.api import twoperson
from hsm.api.access import ACCESS
from hsm.api.app import build_app
from hsm.api.doors import Doors
from hsm.api.identity import UnixPeer
from hsm.api.server import ApiServer
from hsm.api.twoperson import TwoPerson
from hsm.catalog import approvals, chaincheck, journal
from hsm.catalog.engine import Catalog, open_engine
from hsm.catalog.tables import Approval
from hsm.client import Client, Refused
from hsm.clock import ManualClock
from hsm.config.access import COMMANDS, RolesConfig, TwoPersonConfig
from hsm.errors import Refused as NotDone
from hsm.refusals import Refusal

ROLES = RolesConfig(
    users={"anna": "admin", "bert": "admin", "olaf": "operator", "rita": "auditor"}, others="none"
)
UIDS = {"anna": 2001, "bert": 2002, "olaf": 2003, "rita": 2004}
LOST = "/v1/volumes/T1/lost"


@dataclass
class House:
    """An API with the rule in force, its catalog, and four people."""

    catalog: Catalog
    clock: ManualClock
    script: Script
    config: TwoPersonConfig

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Anew, as after a restart."""
        joined = services(self.catalog, self.script)
        self.noted: list[Refusal] = []
        self.app = build_app(joined, Doors(ROLES), TwoPerson(joined, self.config), self.noted.append)

    def call(self, who: str, method: str, path: str, given: Any = None) -> Answer:
        return call(self.app, method, path, given, peer=UnixPeer(UIDS[who], who, 1))

    def ask(self, who: str = "anna", path: str = LOST, **given: Any) -> int:
        """Ask for something; the number under which it waits."""
        answer = self.call(who, "POST", path, given or {"reason": "burnt"})
        assert answer.status == 409, answer.content
        assert answer.json()["kind"] == "approval needed"
        return max(each["id"] for each in self.call("anna", "GET", "/v1/approvals").json())

    def approve(self, who: str, pk: int, digest: str | None = None) -> Answer:
        shown = self.call(who, "GET", f"/v1/approvals/{pk}").json()
        return self.call(who, "POST", f"/v1/approvals/{pk}/approve", {"digest": digest or shown["digest"]})

    def verbs(self) -> list[tuple[str, str]]:
        with self.catalog.read() as session:
            found = journal.find(session, journal.Wanted(kind="approval"), 100)
        return [(each.actor, each.verb) for each in reversed(found)]

    @property
    def done(self) -> list[tuple[Any, ...]]:
        looks = ("folder digest", "status", "pool listing")
        return [asked for asked in self.script.asked if asked[0] not in looks]


@pytest.fixture
def house(sqlite_template: Path, tmp_path: Path) -> Iterator[House]:
    shutil.copyfile(sqlite_template, tmp_path / "catalog.db")
    clock = ManualClock()
    catalog = Catalog(open_engine(f"sqlite:///{tmp_path / 'catalog.db'}"), clock)
    yield House(catalog, clock, Script(), TwoPersonConfig(commands=COMMANDS, expires="1 h"))
    catalog.close()


def test_the_first_person_asks_and_nothing_happens_until_another_agrees(house: House) -> None:
    pk = house.ask("anna")
    assert house.done == []
    assert house.call("anna", "GET", "/v1/status").json()["approvals_waiting"] == 1
    assert b"\nhsm_approvals_waiting 1" in house.call("anna", "GET", "/metrics").content
    shown = house.call("bert", "GET", f"/v1/approvals/{pk}").json()
    assert (shown["command"], shown["path"], shown["body"], shown["asked_by"], shown["state"]) == (
        "volume lost",
        {"barcode": "T1"},
        {"reason": "burnt"},
        "anna",
        "waiting",
    )
    answer = house.approve("bert", pk)
    assert (answer.status, answer.json()["command"], answer.json()["answer"]) == (
        200,
        "volume lost",
        {"ok": True},
    )
    assert house.done == [("lost", "T1", "anna, approved by bert", "burnt")]
    assert house.call("bert", "GET", f"/v1/approvals/{pk}").json()["state"] == "done"
    assert house.call("anna", "GET", "/v1/status").json()["approvals_waiting"] == 0
    assert house.verbs() == [
        ("anna", "approval asked"),
        ("bert", "approval given"),
        ("bert", "approval executed"),
    ]
    with house.catalog.read() as session:
        assert list(chaincheck.verify(session)) == []


def test_nobody_agrees_to_their_own_whatever_name_they_give(house: House) -> None:
    pk = house.ask("anna", reason="burnt", by="bert")
    digest = house.call("anna", "GET", f"/v1/approvals/{pk}").json()["digest"]
    for by in ("", "bert", "carl"):
        answer = house.call("anna", "POST", f"/v1/approvals/{pk}/approve", {"digest": digest, "by": by})
        assert answer.status == 409
        assert "anna asked for it; another person must agree" in answer.json()["error"]
    assert house.done == []
    noted = house.noted[0]
    assert (noted.actor, noted.act) == ("anna", f"POST /v1/approvals/{pk}/approve")
    assert "another person must agree" in noted.reason
    with pytest.raises(NotDone, match="another person"), house.catalog.write() as session:
        approvals.approve(session, pk, digest, "Anna (token t2)", "Anna", house.clock.now())


def test_only_who_might_do_it_may_agree_to_it(house: House) -> None:
    pk = house.ask("anna")
    for who in ("olaf", "rita"):
        answer = house.approve(who, pk)
        assert answer.status == 403
        assert f"approval of volume lost needs the role admin; {who} has" in answer.json()["error"]
    assert house.done == []


def test_it_is_executed_once(house: House) -> None:
    pk = house.ask("anna")
    assert house.approve("bert", pk).status == 200
    again = house.approve("bert", pk)
    assert again.status == 409
    assert "decided on before: done, by bert" in again.json()["error"]
    assert len(house.done) == 1


def test_what_expired_is_not_executed(house: House) -> None:
    pk = house.ask("anna")
    house.clock.advance(3600)
    answer = house.approve("bert", pk)
    assert answer.status == 409
    assert "expired" in answer.json()["error"]
    assert house.done == []
    assert house.call("bert", "GET", "/v1/approvals").json() == []
    assert house.call("bert", "GET", "/v1/approvals?all=true").json()[0]["state"] == "expired"


def test_what_was_refused_or_taken_back_is_not_executed(house: House) -> None:
    first, second = house.ask("anna"), house.ask("anna", reason="flooded")
    assert house.call("bert", "POST", f"/v1/approvals/{first}/refuse", {"reason": "no"}).status == 200
    assert house.call("anna", "POST", f"/v1/approvals/{second}/refuse", {"reason": "a mistake"}).status == 200
    for pk in (first, second):
        assert house.approve("bert", pk).status == 409
    assert house.done == []
    assert [verb for _, verb in house.verbs()].count("approval refused") == 2


def test_it_waits_through_a_restart(house: House) -> None:
    pk = house.ask("anna")
    house.start()
    assert house.approve("bert", pk).status == 200
    assert house.done == [("lost", "T1", "anna, approved by bert", "burnt")]


@pytest.mark.parametrize("column", ["asked", "asked and digest"])
def test_what_was_altered_in_the_database_is_not_executed(house: House, column: str) -> None:
    pk = house.ask("anna")
    with house.catalog.read() as session:
        asked = approvals.text_of({**approvals.get(session, pk).asked, "path": {"barcode": "T9"}})
    values = {"asked": asked} | ({"digest": approvals.digest_of(asked)} if "digest" in column else {})
    with house.catalog.write() as session:
        session.execute(update(Approval).where(Approval.pk == pk).values(**values))
    answer = house.approve("bert", pk)
    assert answer.status == 409
    assert "not what was asked for" in answer.json()["error"]
    assert house.done == []


def test_who_agrees_agrees_to_what_was_shown(house: House) -> None:
    pk = house.ask("anna")
    answer = house.approve("bert", pk, "0" * 64)
    assert answer.status == 409
    assert "not what was shown" in answer.json()["error"]
    assert house.done == []


def test_asking_twice_waits_once(house: House) -> None:
    assert house.ask("anna") == house.ask("anna")
    assert house.ask("bert") != house.ask("anna", reason="other")
    assert len(house.call("anna", "GET", "/v1/approvals").json()) == 3


def test_so_many_wait_and_no_more(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approvals, "WAITING_MAX", 2)
    house.ask("anna", reason="1")
    house.ask("anna", reason="2")
    answer = house.call("anna", "POST", LOST, {"reason": "3"})
    assert (answer.status, answer.json()["kind"]) == (409, "refused")
    assert "2 commands wait" in answer.json()["error"]


def test_a_command_that_fails_then_says_so_and_is_not_tried_again(house: House) -> None:
    pk = house.ask("anna")
    house.script.answers["lost"] = NotDone("the last verified copy stays")
    answer = house.approve("bert", pk)
    assert (answer.status, answer.json()["error"]) == (409, "the last verified copy stays")
    shown = house.call("bert", "GET", f"/v1/approvals/{pk}").json()
    assert (shown["state"], shown["outcome"]) == ("failed", "the last verified copy stays")
    assert house.approve("bert", pk).status == 409
    assert len(house.done) == 1


def test_a_crash_between_agreeing_and_doing_is_told_and_not_done_again(house: House) -> None:
    pk = house.ask("anna")
    with house.catalog.write() as session:
        there = approvals.get(session, pk)
        approvals.approve(session, pk, there.digest, "bert", "bert", house.clock.now())
    house.start()
    shown = house.call("bert", "GET", f"/v1/approvals/{pk}").json()
    assert shown["state"] == "approved"
    assert "a crash came in between" in shown["outcome"]
    assert house.approve("bert", pk).status == 409
    assert house.done == []


def test_policies_are_activated_only_as_they_were_when_asked_for(house: House) -> None:
    house.script.answers["folder digest"] = "ab12"
    pk = house.ask("anna", "/v1/policies/activate", comment="new year")
    shown = house.call("bert", "GET", f"/v1/approvals/{pk}").json()
    assert shown["body"] == {"comment": "new year", "digest": "ab12"}
    assert house.approve("bert", pk).status == 200
    assert house.done == [("activate", "anna, approved by bert", "new year", None, "ab12")]


def test_only_the_listed_commands_wait(house: House) -> None:
    house.config = replace_commands(house.config, "volume overwrite")
    house.start()
    assert house.call("anna", "POST", LOST, {"reason": "burnt"}).status == 200
    assert house.call("olaf", "POST", "/v1/volumes/T1/label", {"pool": "tape"}).status == 200
    answer = house.call("anna", "POST", "/v1/volumes/T1/label", {"pool": "tape", "overwrite": "T1"})
    assert answer.json()["kind"] == "approval needed"


def replace_commands(config: TwoPersonConfig, *commands: str) -> TwoPersonConfig:
    return TwoPersonConfig(commands=commands, expires=config.expires)


def test_every_command_of_the_configuration_is_a_path_that_there_is(house: House) -> None:
    assert set(twoperson.COMMANDS) == set(COMMANDS)
    for name, command in twoperson.COMMANDS.items():
        assert command.act in ACCESS, name
        if command.member and ACCESS[command.act].member:
            assert ACCESS[command.act].member == command.member


def test_a_role_comes_before_the_second_person(house: House) -> None:
    assert house.call("olaf", "POST", LOST, {"reason": "burnt"}).status == 403
    assert house.call("anna", "GET", "/v1/approvals?all=true").json() == []


def test_the_database_itself_wants_two_persons(house: House) -> None:
    pk = house.ask("anna")
    with pytest.raises(IntegrityError, match="ck_approval_persons"), house.catalog.write() as session:
        session.execute(
            text(
                "UPDATE approval SET state = 'approved', decided_at = asked_at, decided_by = 'x',"
                f" decided_person = asked_person WHERE pk = {pk}"
            )
        )


def test_the_command_line_asks_shows_and_agrees(house: House, tmp_path: Path, monkeypatch) -> None:
    who = ["anna"]
    monkeypatch.setattr("hsm.api.identity.user_name", lambda uid: who[0])
    server = ApiServer(house.app, tmp_path / "hsm.sock")
    server.start()
    run = CliRunner().invoke
    before = ["--socket", str(tmp_path / "hsm.sock")]
    try:
        with Client(tmp_path / "hsm.sock") as client, pytest.raises(Refused) as raised:
            client.lost("T1", "burnt")
        assert raised.value.exit_code == 4
        assert "waits as number 1" in str(raised.value)
        assert "hsm approve" in raised.value.hint
        own = run(command_line, [*before, "approve", "1", "--yes"])
        assert own.exit_code == 4
        who[0] = "bert"
        listed = run(command_line, [*before, "approve", "ls", "--json"])
        assert [each["id"] for each in json.loads(listed.stdout)] == [1]
        unsure = run(command_line, [*before, "approve", "1"], input="n\n")
        assert (unsure.exit_code, house.done) == (1, [])
        assert "burnt" in unsure.stdout
        agreed = run(command_line, [*before, "approve", "1"], input="y\n")
        assert agreed.exit_code == 0, agreed.output
        assert "volume lost: done" in agreed.stdout
        assert house.done == [("lost", "T1", "anna, approved by bert", "burnt")]
    finally:
        server.stop()
