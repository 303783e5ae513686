"""A day in a small hospital: a real daemon with a fast clock, ten workstations, two operators who err, and
crashes. At its end every study that was asked for is where it was asked for, once, and the books are whole.

`make story` lives a quarter of an hour of it, `make day` the whole day too; HSM_DAY_SEED repeats one.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.story.hospital import Hospital
from tests.story.hospital_books import Account, books, deliveries, missing
from tests.story.hospital_people import Cupboard, Operator
from tests.story.hospital_script import HOUR, LONG, SHORT, Ask, Script, Shape, script
from tests.story.hospital_stations import Stations
from tests.story.hospital_studies import make_study

pytestmark = pytest.mark.filterwarnings(
    # pynetdicom leaves the socket of a refused association to the collector.
    "ignore:unclosed <socket:ResourceWarning",
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning",
)

SETTLE_SECONDS = 300.0
"""Of the machine's: how long nothing may come of what is owed when nobody asks any more and operators are at
work. A busy machine takes as long as it takes, as long as something comes."""


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_morning_in_a_small_hospital_with_a_crash(tmp_path: Path) -> None:
    live(tmp_path, seed_of("HSM_DAY_SEED", 7), SHORT)


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_a_whole_day_in_a_small_hospital_with_five_crashes(tmp_path: Path) -> None:
    shape = replace(LONG, speed=float(os.environ.get("HSM_DAY_SPEED") or LONG.speed))
    live(tmp_path, seed_of("HSM_DAY_SEED", random.SystemRandom().randrange(10**6)), shape)


def seed_of(name: str, default: int) -> int:
    return int(os.environ.get(name) or default)


def live(folder: Path, seed: int, shape: Shape) -> None:
    """The day of ``seed``, and what must be true when it is over."""
    print(f"\nthe day of seed {seed} (HSM_DAY_SEED={seed} lives it again)")
    day = script(seed, shape)
    hospital = Hospital(folder / "h", shape)
    studies = tuple(make_study(seed, number, shape.instances_max) for number in range(shape.studies))
    began = time.monotonic()
    try:
        hospital.prepare(studies)
        prepared = time.monotonic()
        print(f"prepared in {prepared - began:.0f} s")
        hospital.begin_day()
        stations = Stations(hospital, studies, seed)
        cupboard = Cupboard(hospital)
        with stations.listening():
            kills = through(day, stations, cupboard)
        hospital.stop()
        accounts = [deliveries(stations, kills), books(hospital, stations)]
        report(accounts, stations, cupboard, kills, time.monotonic() - prepared)
        faults = [fault for account in accounts for fault in account.faults]
        faults += [*stations.faults, *cupboard.faults]
        assert not faults, f"seed {seed}:\n" + "\n".join(faults)
    finally:
        hospital.kill()
        gc.collect()  # what pynetdicom left open is collected here, and not between other tests


def through(day: Script, stations: Stations, cupboard: Cupboard) -> list[float]:
    """From seven in the morning until nobody waits any more; when the daemon was killed."""
    hospital, stop = cupboard.hospital, threading.Event()
    operators = [Operator(name, cupboard, day.seed, stop) for name in ("anna", "ben")]
    people: list[threading.Thread] = []
    kills: list[float] = []
    fate = threading.Thread(target=crashes, args=(hospital, day.kills, kills), daemon=True)
    for thread in (*operators, fate):
        thread.start()
    try:
        for ask in sorted(repeated(day), key=lambda each: each.at):
            hospital.sleep_until(ask.at)
            person = threading.Thread(target=stations.person, args=(ask,), daemon=True)
            person.start()
            people.append(person)
        fate.join()
        if hospital.shape.hours * HOUR > hospital.shape.home_at:
            hospital.sleep_until(
                hospital.shape.back_at + HOUR
            )  # what came in the evening waits for the operators
        settle(stations, people)
    finally:
        stop.set()
        for operator in operators:
            operator.join(30)
    return kills


def repeated(day: Script) -> list[Ask]:
    """What people ask, and those who ask once more."""
    again = [replace(ask, at=ask.at + ask.again_after) for ask in day.asks if ask.again_after is not None]
    return [*day.asks, *again]


def crashes(hospital: Hospital, moments: Sequence[float], kills: list[float]) -> None:
    for moment in moments:
        hospital.sleep_until(moment)
        kills.append(hospital.seconds())
        hospital.kill()
        hospital.sleep(60)
        hospital.start()


def settle(stations: Stations, people: Sequence[threading.Thread]) -> None:
    """Until everybody has what he is owed, or it takes too long: what is missing then is a fault."""
    deadline, least = time.monotonic() + SETTLE_SECONDS, sys.maxsize
    while time.monotonic() < deadline:
        waiting = stations.hospital.ask(lambda client: client.mounts())
        live = stations.hospital.ask(lambda client: client.queue(kind="deliver", limit=500))
        busy = [each for each in live if each["state"] in ("queued", "active", "waiting")]
        lacking = missing(stations)
        if not (lacking or waiting or busy or any(person.is_alive() for person in people)):
            return
        if lacking + len(busy) < least:
            deadline, least = time.monotonic() + SETTLE_SECONDS, lacking + len(busy)
        time.sleep(0.2)


def report(
    accounts: Sequence[Account],
    stations: Stations,
    cupboard: Cupboard,
    kills: Sequence[float],
    seconds: float,
) -> None:
    """One screen: requests, deliveries, prompts, kills, waits."""
    for account in accounts:
        for name, value in account.figures.items():
            print(f"  {name}: {value}")
    print(f"  kills: {len(kills)} at {[round(kill) for kill in kills]}")
    print(f"  operators: {dict(cupboard.did)}")
    print(f"  {stations.hospital.seconds() / HOUR:.1f} h in {seconds:.0f} s")
