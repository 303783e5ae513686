"""A daemon dies, or its disk fails, at a step that the test names, while three associations store.

The short form takes the steps of an ingest; `make crash` takes every step, and then whatever the dice say
for HSM_CRASH_MINUTES, also with two receivers and with the power cut.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.campaign import Campaign, Fault, Nursery, campaign
from tests.crash.conftest import SEED
from tests.crash.steps import EVERY, MINUTES, RECOVERING, failing
from tests.story.archive import KEEP, ROAD

PATIENCE_SECONDS = 30.0
LATE_SECONDS = 8.0
"""For a step that may not come at all in a life, as the release of a study."""
pytestmark = pytest.mark.timeout(300)
LIVES_OF_AN_ARCHIVE = 25
MakeCampaign = Callable[..., Campaign]

SHORT = [
    Fault("flush arrival", nth=3),
    Fault("link instance", when="after", nth=4),
    Fault("commit rows", when="before", nth=5),
    Fault("commit rows", when="after", nth=6),
    Fault("send answer", when="before", nth=9),
    Fault("flush folder", when="before"),
    Fault("unlink arrival", when="before", nth=2),
    Fault("unlink manifest", when="after"),
]


@pytest.mark.campaign
def test_a_kill_at_a_named_step_loses_nothing_that_was_acknowledged(make_campaign: MakeCampaign) -> None:
    lives = make_campaign()
    for fault in SHORT:
        assert lives.life(fault, seconds=PATIENCE_SECONDS), f"{fault}: never came to that"
    lives.finish()
    assert len(lives.acknowledged) > 20


@pytest.mark.campaign
def test_a_disk_or_database_that_fails_once_loses_nothing_and_goes_on(make_campaign: MakeCampaign) -> None:
    lives = make_campaign()
    for step, nth in (
        ("flush arrival", 5),
        ("link instance", 4),
        ("commit rows", 6),
        ("flush folder", 2),
    ):
        before = len(lives.acknowledged)
        assert lives.life(failing(step, nth), "strict", seconds=PATIENCE_SECONDS), f"{step} never came"
        assert len(lives.acknowledged) > before + nth, f"stopped storing after {step} failed"
    lives.finish()


@pytest.mark.campaign
def test_two_receivers_that_die_with_their_daemon_lose_nothing(make_campaign: MakeCampaign) -> None:
    lives = make_campaign(receivers=2)
    lives.life(Fault("commit rows", when="after", nth=12), "strict", seconds=PATIENCE_SECONDS)
    lives.finish()
    assert lives.acknowledged


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("cut", [None, "strict", "torn"])
def test_every_step_may_be_the_last(make_campaign: MakeCampaign, cut: str | None) -> None:
    lives = make_campaign(policy=ROAD)
    never = [str(fault) for fault in EVERY if not lives.life(fault, cut, seconds=LATE_SECONDS)]
    for step in RECOVERING:
        lives.life(Fault("send answer", when="after", nth=40), cut, seconds=PATIENCE_SECONDS)
        lives.start_and_die(Fault(step), cut)
    lives.finish()
    print(f"{lives.kills} deaths, {len(lives.acknowledged)} acknowledged, none lost; not met: {never}")


@pytest.mark.long
@pytest.mark.timeout(60 * MINUTES + 600)
def test_lives_that_end_anyhow_lose_nothing(nursery: Nursery, tmp_path: Path) -> None:
    dice = random.Random(SEED)
    end = time.monotonic() + 60 * MINUTES
    kills = fired = acknowledged = cuts = 0
    number = 0
    while time.monotonic() < end:
        number += 1
        receivers = 2 if number % 3 == 0 else 1
        # With the one half of them, everything goes on tape and off the disks at once; the other is quicker.
        policy = KEEP if number % 2 else ROAD
        with campaign(tmp_path / str(number), nursery, dice, policy=policy, receivers=receivers) as lives:
            while lives.kills < LIVES_OF_AN_ARCHIVE and time.monotonic() < end:
                cuts += anyhow(lives, dice) is not None
            lives.finish()
            kills, fired = kills + lives.kills, fired + lives.fired
            acknowledged += len(lives.acknowledged)
        print(
            f"{kills} deaths, {fired} of them or their errors at a named step, {cuts} with the power cut; "
            f"{acknowledged} instances acknowledged, none lost (seed {SEED}, {number} archives)",
            flush=True,
        )


def anyhow(lives: Campaign, dice: random.Random) -> str | None:
    """One life that ends as the dice say; what became of the power."""
    cut = dice.choice((None, "strict", "torn"))
    if dice.random() < 0.1:
        lives.start_and_die(Fault(dice.choice(RECOVERING), nth=dice.choice((1, 1, 2, 5))), cut)
    elif dice.random() < 0.2:
        lives.life(None, cut, seconds=dice.uniform(0.05, 1.0))
    else:
        fault = dataclasses.replace(dice.choice(EVERY), nth=dice.choice((1, 2, 3, 5, 8, 13, 40)))
        lives.life(fault, cut, seconds=dice.uniform(0.5, 2.5))
    return cut
