"""The power goes: what was written and not flushed is lost, in a real daemon under load.

Each flush is where it must be: left out, the checks find the loss. What is lost is played by
tests/crash/power.py, from a record of the flushes that returned.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.crash.campaign import Campaign, Fault
from tests.crash.steps import MINUTES, RECOVERING

PATIENCE_SECONDS = 30.0
pytestmark = pytest.mark.timeout(300)
MakeCampaign = Callable[..., Campaign]

NEARLINE_ONLY = """\
policy: near
priority: 1
copies: {nearline: 1}
rules:
  - {name: to nearline, copy to: nearline, when: copies(nearline) = 0}
  - {name: free online, release from: online, when: copies(nearline) >= 1}
schedule: every 1 second
"""


@pytest.mark.campaign
@pytest.mark.parametrize("cut", ["strict", "torn"])
def test_what_was_acknowledged_survives_a_power_cut(make_campaign: MakeCampaign, cut: str) -> None:
    lives = make_campaign()
    for fault in (
        Fault("flush folder", when="before"),
        Fault("send answer", when="after", nth=60),
        Fault("unlink arrival", when="after", nth=3),
    ):
        assert lives.life(fault, cut, seconds=PATIENCE_SECONDS), f"{fault}: never came to that"
    lives.finish()
    assert len(lives.acknowledged) > 60


@pytest.mark.campaign
@pytest.mark.parametrize("step", RECOVERING if MINUTES else ("flush incoming folder",))
def test_a_second_power_cut_during_the_recovery_from_the_first_loses_nothing(
    make_campaign: MakeCampaign, step: str
) -> None:
    lives = make_campaign()
    lives.life(Fault("flush folder", when="before"), "strict", seconds=PATIENCE_SECONDS)
    assert lives.acknowledged
    lives.start_and_die(Fault(step, when="after"), "strict")
    lives.finish()


@pytest.mark.parametrize(
    ("flush", "fault"),
    [
        (("flush arrival",), Fault("send answer", when="after", nth=12)),
        (("flush incoming folder",), Fault("flush folder", when="before")),
        # An instance has two lives: it is taken in again for as long as its temporary name is there. So
        # these end when the folder of those has been flushed after many were removed. A checkpoint may come
        # to the rescue of rows.
        (("commit rows", "checkpoint"), Fault("flush incoming folder", when="after", nth=12)),
        pytest.param(("flush folder",), Fault("send answer", when="after", nth=150), marks=pytest.mark.long),
        pytest.param(("checkpoint",), Fault("send answer", when="after", nth=600), marks=pytest.mark.long),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, tuple) else "",
)
def test_a_flush_that_is_left_out_is_found_out(
    make_campaign: MakeCampaign, flush: tuple[str, ...], fault: Fault
) -> None:
    lives = make_campaign()
    assert lives.life(fault, "strict", without=flush, seconds=PATIENCE_SECONDS)
    assert lives.acknowledged
    lives.archive.begin(None)
    # A catalog that is broken, so that the daemon refuses to start, is loss enough.
    assert not lives.archive.until_ready() or lives.losses(), f"the archive does without: {flush}"
    lives.archive.end(signal.SIGKILL)


@pytest.mark.long
@pytest.mark.parametrize("flush", ["flush copy", "flush copy's folder"])
def test_a_copy_whose_flush_is_left_out_is_found_out(make_campaign: MakeCampaign, flush: str) -> None:
    lives = make_campaign(policy=NEARLINE_ONLY)
    fault = Fault("unlink instance", when="after", nth=12)
    assert lives.life(fault, "strict", without=(flush,), seconds=3 * PATIENCE_SECONDS)
    lives.archive.begin(None)
    assert lives.archive.until_ready()
    with pytest.raises(AssertionError, match=r"not served|failed"):
        lives.serve({stored.study for stored in lives.acknowledged.values()})
    lives.archive.end(signal.SIGKILL)
