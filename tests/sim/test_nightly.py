"""The nightly summary: what it says, and that a night has one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from journalforger import disarm
from sqlalchemy import text

from hsm.audit import Audit
from hsm.audit.nightly import AGAIN, TRIES_MAX, Nightly
from hsm.catalog import chaincheck, journal
from hsm.config.audit import SummaryConfig
from hsm.config.operators import ChannelConfig
from hsm.operators.channels import NotSent
from hsm.operators.message import Message
from tests.sim.conftest import MakeWorld
from tests.sim.world import World

POLICY = """\
policy: all
priority: 1
copies: {nearline: 1 within 1 h}
rules: [{name: to nearline, copy to: nearline}]
"""
CONFIG = SummaryConfig.model_validate({"at": "06:00", "zone": "Europe/Zurich", "to": "admins"})
CHANNELS = (
    ChannelConfig.model_validate(
        {
            "name": "admins",
            "mail": {"server": "mail.example", "sender": "h@example.org", "to": "a@example.org"},
        }
    ),
)


class Post:
    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.broken = ""

    def __call__(self, channel: ChannelConfig, message: Message, now: datetime) -> None:
        assert channel.name == "admins"
        if self.broken:
            raise NotSent(self.broken)
        self.sent.append(message)


@pytest.fixture
def post() -> Post:
    return Post()


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world(policies=POLICY)


def node(world: World, post: Post, problems: Callable[[], list[str]] = list) -> Nightly:
    audit = Audit(world.catalog, world.pools, world.policies, world.custody, "HSM", world.bell, None)
    return Nightly(world.catalog, audit, problems, "HSM", send=post)


def morning(world: World, hour: int = 5) -> None:
    """To half past six in Zurich (UTC+1) of the next day, or to another hour of UTC."""
    now = world.clock.now()
    then = (now + timedelta(days=1)).replace(hour=hour, minute=30, second=0, microsecond=0)
    world.clock.advance((then - now).total_seconds())


def test_a_good_night_says_so_in_its_subject_and_a_bad_one_says_what(world: World, post: Post) -> None:
    world.store(1, 1)
    world.follow()
    morning(world)
    assert node(world, post).round(CONFIG, CHANNELS)
    good = post.sent.pop()
    assert good.subject.startswith("[HSM] good: all 1 studies have the copies")
    assert "all: 1 protected, 0 due, 0 late, 0 under-protected" in good.text
    assert "whole: " in good.text
    assert "no backup of the catalog is on record" in good.text
    world.store(2, 1)
    world.seal_all()
    with world.catalog.write() as session:
        disarm(session)
        session.execute(text("UPDATE journal SET actor = 'mallory' WHERE seq = 2"))
    morning(world)
    assert node(world, post, lambda: ["HSM001L8 has had 9 write errors"]).round(CONFIG, CHANNELS)
    bad = post.sent.pop()
    assert bad.subject == "[HSM] BAD: 1 study under-protected, the audit log is broken, 1 problem"
    for said in ("record 2 (", "HSM001L8 has had 9 write errors", "BROKEN"):
        assert said in bad.text
    assert bad.data["good"] is False


def test_a_night_has_one_mail_whatever_nodes_and_restarts_there_are(world: World, post: Post) -> None:
    one, two = node(world, post), node(world, post)
    morning(world)
    assert [one.round(CONFIG, CHANNELS), two.round(CONFIG, CHANNELS), one.round(CONFIG, CHANNELS)] == [
        True,
        False,
        False,
    ]
    assert not node(world, post).round(CONFIG, CHANNELS), "a restart"
    assert len(post.sent) == 1
    morning(world)
    assert two.round(CONFIG, CHANNELS)
    with world.catalog.read() as session:
        assert list(chaincheck.verify(session)) == []


@pytest.mark.campaign
def test_nothing_is_sent_before_its_hour_nor_to_nobody(world: World, post: Post) -> None:
    nightly = node(world, post)
    morning(world, hour=4)
    assert not nightly.round(CONFIG, CHANNELS)
    world.clock.advance(3600)
    assert not nightly.round(None, CHANNELS)
    assert not nightly.round(CONFIG, ())
    assert post.sent == []


@pytest.mark.campaign
def test_a_mail_server_that_is_down_is_tried_again_and_is_a_problem_meanwhile(
    world: World, post: Post
) -> None:
    nightly = node(world, post)
    morning(world)
    post.broken = "connection refused"
    assert not nightly.round(CONFIG, CHANNELS)
    assert "connection refused" in nightly.problems()[0]
    assert not nightly.round(CONFIG, CHANNELS), "not at once"
    post.broken = ""
    world.clock.advance(AGAIN.total_seconds())
    assert nightly.round(CONFIG, CHANNELS)
    assert nightly.problems() == []


@pytest.mark.campaign
def test_of_two_nodes_at_the_same_moment_one_sends(world: World, post: Post, monkeypatch: Any) -> None:
    one, two = node(world, post), node(world, post)
    morning(world)
    looked = two._taken

    def both_look_first(session: Any, night: Any, now: Any, mine: int) -> bool:
        if not mine:
            one.round(CONFIG, CHANNELS)  # while the other one has just looked
            return False
        return looked(session, night, now, mine)

    monkeypatch.setattr(two, "_taken", both_look_first)
    assert not two.round(CONFIG, CHANNELS)
    assert len(post.sent) == 1


@pytest.mark.campaign
def test_tries_are_limited(world: World, post: Post) -> None:
    nightly = node(world, post)
    morning(world)
    post.broken = "no"
    for _ in range(TRIES_MAX + 3):
        nightly.round(CONFIG, CHANNELS)
        world.clock.advance(AGAIN.total_seconds())
    with world.catalog.read() as session:
        tries = journal.find(session, journal.Wanted(verb="summary begun"), 100)
    assert len(tries) == TRIES_MAX
