"""People hear of damaged copies: what is said, to whom, when, and what happens when it does not go."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from hsm.catalog.engine import Catalog
from hsm.clock import ManualClock
from hsm.config.operators import ChannelConfig, OperatorConfig, operator_errors
from hsm.operators.channels import NotSent
from hsm.operators.damage import ATTEMPTS_MAX, Damage, compose, compose_backup
from hsm.operators.message import Message
from hsm.repair import News

FOUND = News(damaged=("1.2.p0001.tar on nas of pool nas, study 1.2",))
LOST = News(hopeless=("1.3.p0001.tar on nas of pool nas, study 1.3",))
NIGHT = datetime(2026, 3, 2, 23, 30, tzinfo=UTC)


def config(**more: Any) -> OperatorConfig:
    hook = {"name": "hook", "webhook": {"url": "http://127.0.0.1/page"}}
    return OperatorConfig.model_validate({"channels": [hook], "damage_to": "hook", **more})


class Sends:
    def __init__(self) -> None:
        self.went: list[Message] = []
        self.error = ""

    def __call__(self, channel: ChannelConfig, message: Message, now: datetime) -> None:
        if self.error:
            raise NotSent(self.error)
        self.went.append(message)


def test_what_was_found_and_what_is_lost_is_said_the_worst_first() -> None:
    message = compose(News(FOUND.damaged, FOUND.damaged, LOST.hopeless), "HSM")
    assert message.subject.startswith("[HSM] URGENT: copies: 1 NO GOOD COPY IS LEFT of; 1 damaged")
    assert (
        message.text.index("study 1.3") < message.text.index("study 1.2") < message.text.index("good again")
    )
    assert message.data["counts"] == {"no_good_copy": 1, "damaged": 1, "mended": 1}
    many = compose(News(damaged=tuple(f"copy {number}" for number in range(90))), "HSM")
    assert "and 40 more" in many.text
    assert "URGENT" not in many.subject


def test_the_night_is_for_what_is_lost_only() -> None:
    sends, clock = Sends(), ManualClock(NIGHT)
    damage = Damage(config(quiet_hours={"start": "22:00", "end": "06:00"}), "HSM", clock, sends)
    damage.tell(FOUND)
    damage.tell(LOST)
    assert damage.round() == 1
    assert "URGENT" in sends.went[0].subject
    clock.advance(8 * 3600)
    assert damage.round() == 1
    assert damage.round() == 0, "said once"


def test_what_does_not_go_is_tried_again_and_is_a_problem_until_then() -> None:
    sends, clock = Sends(), ManualClock(NIGHT)
    damage = Damage(config(), "HSM", clock, sends)
    damage.tell(FOUND)
    sends.error = "hook: the server answered 500"
    assert damage.round() == 0
    assert damage.problems() == ["1 messages about damage could not be sent: hook: the server answered 500"]
    sends.error = ""
    assert damage.round() == 1
    assert damage.problems() == []
    sends.error = "down"
    damage.tell(FOUND)
    for _ in range(ATTEMPTS_MAX):
        damage.round()
    sends.error = ""
    assert damage.round() == 0, "given up: it is in the journal"


def test_nobody_is_told_where_nobody_is_configured() -> None:
    sends = Sends()
    damage = Damage(OperatorConfig(), "HSM", ManualClock(NIGHT), sends)
    damage.tell(LOST)
    assert (damage.round(), sends.went) == (0, [])


@pytest.mark.parametrize("to", ["nobody", ["hook", "nobody"]])
def test_a_channel_that_is_not_there_is_an_error_of_the_configuration(to: object) -> None:
    section = {"channels": [{"name": "hook"}], "damage_to": to}
    ((place, text),) = operator_errors({"operator": section})
    assert place == ("operator", "damage_to")
    assert "'nobody'" in text


def test_what_was_not_sent_is_sent_after_a_restart_and_what_was_is_not_sent_again(
    sqlite_catalog: Catalog,
) -> None:
    sends, clock = Sends(), ManualClock(NIGHT)
    other = {"name": "other", "webhook": {"url": "http://127.0.0.1/other"}}
    hook = {"name": "hook", "webhook": {"url": "http://127.0.0.1/page"}}
    both = config(channels=[hook, other], damage_to=["hook", "other"])

    def started(node: str = "a") -> Damage:
        return Damage(both, "HSM", clock, sends, catalog=sqlite_catalog, node=node)

    first = started()
    first.tell(FOUND)
    assert first.round() == 2
    sends.error = "down"
    first.tell(LOST)
    assert first.round() == 0
    sends.error = ""
    again = started()
    again.say(compose_backup("nas", "it is full", None, NIGHT, "HSM"), urgent=True)
    assert started("b").round() == 0, "another node sends its own"
    assert again.round() == 4
    assert [message.subject[6:30] for message in sends.went[2:]] == [
        *["URGENT: copies: 1 NO GOO"] * 2,
        *["URGENT: the catalog's ba"] * 2,
    ]
    assert sends.went[2].text == compose(LOST, "HSM").text
    assert started().round() == 0


def test_a_backup_that_fails_is_told_with_what_to_do() -> None:
    failing = compose_backup("nas", "no volume of pool nas takes the backup: full", NIGHT, NIGHT, "HSM")
    assert failing.subject == "[HSM] URGENT: the catalog's backup into nas fails"
    for part in ("takes the backup: full", "of 2026-03-02 23:30", "hsm catalog backup --pool nas"):
        assert part in failing.text
    good = compose_backup("nas", "", NIGHT, NIGHT, "HSM")
    assert good.subject == "[HSM] the catalog's backup into nas is written again"
    assert good.data["good"] is True
