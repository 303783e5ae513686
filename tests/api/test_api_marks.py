"""Holds, tags and retention over the real socket, as a person says them; and why a study is where it is."""

from __future__ import annotations

import json
import os
import pwd
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from api_world import LONG_UID, NEW_UID, TAPE_UID, Script, fill, services
from rich.cells import cell_len
from typer.testing import CliRunner, Result

from cli.main import app
from hsm.api.app import build_app
from hsm.api.server import ApiServer
from hsm.catalog import history, journal
from hsm.catalog.engine import Catalog, open_engine
from hsm.catalog.history import Recorder, Retrieved
from hsm.client import ApiError, BadRequest, Client, Refused
from hsm.clock import ManualClock

ME = pwd.getpwuid(os.getuid()).pw_name
Run = Callable[..., Result]

EXPLANATION = {
    "study": LONG_UID,
    "policy": "default",
    "scopes": [],
    "rules": [
        {
            "rule": "to tape",
            "action": "copy",
            "pool": "tape",
            "applies": False,
            "matches": True,
            "deciding": [],
            "reason": "tape has the 1 verified copy that is wanted",
            "changes_at": None,
        },
        {
            "rule": "free online",
            "action": "release",
            "pool": "online",
            "applies": False,
            "matches": False,
            "deciding": [],
            "reason": "idle > 90d: idle is 61d",
            "changes_at": "2027-01-01T00:00:00Z",
        },
    ],
    "now": "2026-01-01T00:00:00Z",
}


@pytest.fixture
def own(sqlite_template: Path, tmp_path: Path) -> Iterator[tuple[Path, Catalog]]:
    """A data folder of this test alone: what is said here is written."""
    shutil.copyfile(sqlite_template, tmp_path / "catalog.db")
    catalog = Catalog(open_engine(f"sqlite:///{tmp_path / 'catalog.db'}"), ManualClock())
    with catalog.write() as session:
        fill(session, catalog)
    script = Script()
    script.reset()
    script.answers["explain"] = EXPLANATION
    server = ApiServer(build_app(services(catalog, script)), tmp_path / "hsm.sock")
    server.start()
    yield tmp_path, catalog
    server.stop()
    catalog.close()


@pytest.fixture
def asker(own: tuple[Path, Catalog]) -> Iterator[Client]:
    with Client(own[0] / "hsm.sock") as opened:
        yield opened


@pytest.fixture
def say(own: tuple[Path, Catalog], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("HSM_HOME", str(own[0]))
    for name in ("COLUMNS", "FORCE_COLOR", "HSM_SOCKET", "TERM"):
        monkeypatch.delenv(name, raising=False)
    return lambda *arguments: CliRunner().invoke(app, ["study", *arguments])


def _journal(own: tuple[Path, Catalog]) -> list[tuple[str, str]]:
    with own[1].read() as session:
        return [(each.actor, each.verb) for each in journal.history(session, LONG_UID)][1:]


def test_a_hold_is_placed_shown_listed_and_lifted(asker: Client, own: tuple[Path, Catalog]) -> None:
    assert asker.study(LONG_UID)["hold"] is None
    asker.hold(LONG_UID, "court of Bern")
    hold = asker.study(LONG_UID)["hold"]
    assert (hold["placed_by"], hold["reason"]) == (ME, "court of Bern")
    (listed,) = asker.holds(limit=10)
    assert listed["study"] == LONG_UID
    asker.unhold(LONG_UID, "settled")
    assert asker.study(LONG_UID)["hold"] is None
    assert asker.holds(limit=10) == []
    assert _journal(own) == [(ME, "hold placed"), (ME, "hold lifted")]


def test_a_hold_that_cannot_be_is_refused_with_what_to_do(asker: Client) -> None:
    asker.hold(LONG_UID, "court of Bern")
    with pytest.raises(Refused, match=r"already.*court of Bern"):
        asker.hold(LONG_UID, "another")
    with pytest.raises(Refused, match="not under legal hold"):
        asker.unhold(TAPE_UID, "no reason")
    with pytest.raises(ApiError, match="not in the catalog"):
        asker.hold("9.9.9", "because")
    with pytest.raises(BadRequest, match="reason"):
        asker.hold(TAPE_UID, "")
    with pytest.raises(BadRequest, match="not a UID"):
        asker.hold("nonsense", "because")


def test_tags_and_retention_are_said_and_shown(asker: Client, own: tuple[Path, Catalog]) -> None:
    assert asker.tag(LONG_UID, add=["teaching", "rare"]) == {"tags": ["rare", "teaching"]}
    assert asker.tag(LONG_UID, remove=["rare"]) == {"tags": ["teaching"]}
    asker.retain(LONG_UID, "20360101", "a child's")
    study = asker.study(LONG_UID)
    assert (study["tags"], study["retain_until"]) == (["teaching"], "20360101")
    asker.retain(LONG_UID, "", "grown up")
    assert asker.study(LONG_UID)["retain_until"] == ""
    verbs = [verb for _, verb in _journal(own)]
    assert verbs == ["tagged", "untagged", "retained until 20360101", "retention ended"]


def test_studies_are_found_by_their_tags_and_holds(asker: Client, say: Run) -> None:
    asker.tag(LONG_UID, add=["teaching"])
    asker.tag(TAPE_UID, add=["teaching", "rare"])
    asker.hold(TAPE_UID, "court")
    assert {each["uid"] for each in asker.find_studies(tag="teaching")} == {LONG_UID, TAPE_UID}
    assert [each["uid"] for each in asker.find_studies(tag="rare")] == [TAPE_UID]
    assert asker.find_studies(tag="teach") == []
    assert [each["uid"] for each in asker.find_studies(tag="teaching", hold="true")] == [TAPE_UID]
    with pytest.raises(BadRequest, match="hold"):
        asker.find_studies(hold="maybe")
    assert TAPE_UID in say("find", "--held").output and LONG_UID not in say("find", "--held").output


def test_what_is_no_tag_or_no_day_is_refused(asker: Client) -> None:
    for act in (
        lambda: asker.tag(LONG_UID, add=["a,b"]),
        lambda: asker.tag(LONG_UID),
        lambda: asker.tag(LONG_UID, add=[1]),  # type: ignore[list-item]
        lambda: asker.retain(LONG_UID, "tomorrow", "why"),
    ):
        with pytest.raises(BadRequest):
            act()


def test_who_read_a_study_is_shown(asker: Client, own: tuple[Path, Catalog], say: Run) -> None:
    recorder = Recorder(own[1])
    now = own[1].clock.now()
    recorder.retrieved(Retrieved(LONG_UID, now, "WS1", 5_000_000, "nearline", 12.25))
    recorder.found([LONG_UID])
    recorder.flush()
    found = {each["kind"]: each for each in asker.accesses(LONG_UID, limit=10)}
    retrieve, query = found[history.RETRIEVE], found[history.QUERY]
    assert (retrieve["ae"], retrieve["tier"], retrieve["waited_seconds"]) == ("WS1", "nearline", 12.25)
    assert (query["times"], query["daily"], query["ae"]) == (1, True, "")
    shown = say("accesses", LONG_UID).output
    assert "WS1" in shown and "12.2 s" in shown


def test_the_commands_say_what_they_did(say: Run) -> None:
    for arguments, words in (
        (("hold", LONG_UID, "--reason", "court"), "is under legal hold"),
        (("holds",), "court"),
        (("tag", LONG_UID, "teaching"), "teaching"),
        (("retain", LONG_UID, "--until", "20360101", "--reason", "child"), "retained until 2036-01-01"),
    ):
        done = say(*arguments)
        assert done.exit_code == 0, done.output
        assert words in done.output
    shown = say("show", LONG_UID).output
    assert "legal_hold" in shown.replace(" ", "_") and "court" in shown
    assert "teaching" in shown and "2036-01-01" in shown
    for arguments, words in (
        (("untag", LONG_UID, "teaching"), "no tags"),
        (("unhold", LONG_UID, "--reason", "settled"), "no longer"),
        (("retain", LONG_UID, "--reason", "grown up"), "not retained any more"),
    ):
        done = say(*arguments)
        assert done.exit_code == 0, done.output
        assert words in done.output


def test_a_hold_twice_ends_with_refused_and_a_hold_without_a_reason_with_usage(say: Run) -> None:
    assert say("hold", LONG_UID, "--reason", "court").exit_code == 0
    refused = say("hold", LONG_UID, "--reason", "court")
    assert refused.exit_code == 4 and "already" in refused.output
    assert say("hold", LONG_UID).exit_code == 2


def test_show_answers_why_a_study_is_still_here_and_why_it_was_moved(say: Run) -> None:
    shown = say("show", LONG_UID)
    assert shown.exit_code == 0, shown.output
    assert all(cell_len(line) <= 80 for line in shown.output.splitlines() if LONG_UID not in line)
    assert "still in" in shown.output
    assert "idle > 90d: idle is 61d" in shown.output
    assert "no rule of default takes it out" in shown.output.replace("\n", " ")
    assert "was moved" in shown.output


def test_show_as_json_has_the_explanation_and_the_decisions(say: Run) -> None:
    found = json.loads(say("show", LONG_UID, "--json").output)
    assert found["policies"]["policy"] == "default"
    assert found["decisions"]
    assert set(found["decisions"][0]) >= {"at", "policy", "rule", "action", "pool", "outcome", "reason"}


def test_show_of_a_study_that_is_not_sealed_asks_no_policy(say: Run) -> None:
    shown = say("show", NEW_UID)
    assert shown.exit_code == 0, shown.output
    assert "still in" not in shown.output
