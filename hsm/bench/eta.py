"""``hsm bench eta``: how far off is what a recall says of when it will be through?

A whole daemon with a simulated library of two drives and a clock that goes faster. Studies are archived on
tape, recalls are asked for at random moments, some of them of cartridges on the shelf, for which somebody
walks who takes five to fifteen minutes. Every few seconds each live recall says how long it will take; when
it is through, what it said is compared with the truth. A drive that is slower than its model shows what
measuring is worth: how far off the first recalls are, and the later ones.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import select

from drivers.errors import DriverError
from hsm.bench.frame import Cell, Report, Table, machine
from hsm.bench.retrieve_archives import free_port
from hsm.catalog import prompts
from hsm.catalog.tables import Copy, Package, Request, Study, Volume
from hsm.clock import FastClock
from hsm.config import Config
from hsm.daemon import Daemon
from hsm.errors import HsmError, Permanent
from hsm.model import Header, Place, Priority
from hsm.states import CopyState, RequestState

SEED: Final = 11
ROOT: Final = "1.2.826.0.1.3680043.8.498.77"
CT_IMAGE, EXPLICIT_LITTLE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
STUDY_BYTES: Final = 2_000_000
CARTRIDGE_BYTES: Final = 24 << 20
LOOK_SECONDS: Final = 10.0
BETWEEN_SECONDS: Final = 60.0
"""Between two recalls, on the average."""
WALK_SECONDS: Final = (300.0, 900.0)
LEAST_SECONDS: Final = 20.0
"""What was through sooner counts in seconds only: a share of so little says nothing."""
GIVE_UP_SECONDS: Final = 6 * 3600.0
POLICY = """\
policy: road
priority: 1
copies: {tape: 1}
rules:
  - {name: to tape, copy to: tape}
  - {name: free online, release from: online, when: copies(tape) >= 1}
schedule: every 1 second
"""


@dataclass(frozen=True, slots=True)
class Said:
    """What one recall said at one moment. Seconds of the simulation."""

    at: float
    seconds: float | None
    reason: str
    number: int
    """Of the recall, in the order they were asked for."""
    first: bool


@dataclass(slots=True)
class Recalled:
    shelf: bool
    """It waited for a person at some time."""
    asked: float
    ended: float = 0.0
    said: list[Said] = field(default_factory=list)


def run(folder: Path, *, studies: int, speed: float, slower: float, say: Callable[[str], None]) -> Report:
    """All of it.

    :param speed: of the simulation's clock.
    :param slower: how many times slower the drives are than their model.
    """
    say(f"archiving {studies} studies on tape")
    with archive(folder, speed, slower) as daemon:
        uids = fill(daemon, studies)
        say(f"recalling {studies} of them")
        recalled = recall_all(daemon, uids, random.Random(SEED))
    half = len(recalled) // 2
    groups = {
        "in the library, the first half": [each for each in recalled[:half] if not each.shelf],
        "in the library, the second half": [each for each in recalled[half:] if not each.shelf],
        "from the shelf": [each for each in recalled if each.shelf],
    }
    rows = [row(name, of) for name, of in groups.items()]
    every = row("all that gave a time", recalled)
    measurements = [
        {
            "shelf": each.shelf,
            "took_seconds": round(each.ended - each.asked, 1),
            "said": [(round(one.at - each.asked, 1), one.seconds, one.reason) for one in each.said],
        }
        for each in recalled
    ]
    settings: dict[str, Cell] = {"studies": studies, "speed": speed, "slower": slower, "seed": SEED}
    return Report(
        "eta",
        machine(),
        settings,
        (
            Table(
                f"How far off a recall's ETA was, drives {slower:g} times slower than their model",
                (
                    "recalls",
                    ">number",
                    ">ETAs",
                    ">no time given",
                    ">|error| / truth, median",
                    ">p90",
                    ">when asked, median",
                    ">|error| s, median",
                ),
                (*rows, every),
            ),
        ),
        tuple(measurements),
    )


def row(name: str, recalled: Sequence[Recalled]) -> tuple[Cell, ...]:
    shares, firsts, seconds, none = list[float](), list[float](), list[float](), 0
    for each in recalled:
        for said in each.said:
            truth = each.ended - said.at
            if said.seconds is None:
                none += 1
                continue
            error = abs(said.seconds - truth)
            seconds.append(error)
            if truth >= LEAST_SECONDS:
                shares.append(error / truth)
                if said.first:
                    firsts.append(error / truth)
    return (
        name,
        len(recalled),
        len(seconds),
        none,
        _percent(_quantile(shares, 0.5)),
        _percent(_quantile(shares, 0.9)),
        _percent(_quantile(firsts, 0.5)),
        round(_quantile(seconds, 0.5) or 0.0, 1),
    )


def _quantile(values: Sequence[float], share: float) -> float | None:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


@contextmanager
def archive(folder: Path, speed: float, slower: float) -> Iterator[Daemon]:
    """A daemon of its own, in this process."""
    home = folder / "eta"
    (home / "policies").mkdir(parents=True)
    (home / "policies" / "road.yaml").write_text(POLICY)
    config = Config.model_validate(
        {
            "home": home,
            "source": home / "hsm.yaml",
            "catalog": {"url": f"sqlite:///{home}/catalog.db"},
            "dicom": {"port": free_port(), "listen": "127.0.0.1"},
            "pools": [
                {
                    "name": "online",
                    "tier": "online",
                    "layout": "files",
                    "options": {"path": str(home / "online")},
                },
                {"name": "tape", "tier": "offline", "library": "library"},
            ],
            "libraries": [
                {
                    "name": "library",
                    "driver": "simulated",
                    "options": {
                        "folder": str(home / "library"),
                        "slots": 24,
                        "mail_slots": 2,
                        "drives": 2,
                        "cartridges": 12,
                        "capacity_bytes": CARTRIDGE_BYTES,
                        "time_factor": slower / speed,
                    },
                }
            ],
            "staging": {"path": str(home / "staging"), "size_max_bytes": 1 << 30, "free_min_bytes": 0},
            "policies": str(home / "policies"),
            "seal": {"quiet_seconds": 5},
            "schedule": {"seal_seconds": 2, "policies_seconds": 2, "inventory_seconds": 600},
            "api": {"socket": str(home / "s")},
        }
    )
    daemon = Daemon(config, {}, FastClock(speed, datetime.now(UTC)))
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()


def fill(daemon: Daemon, studies: int) -> list[str]:
    """Studies on tape and nowhere else."""
    uids = [f"{ROOT}.{number}" for number in range(1, studies + 1)]
    for number, uid in enumerate(uids):
        data = random.Random(number).randbytes(STUDY_BYTES)
        daemon.parts.packages.ingest.store(_header(uid), EXPLICIT_LITTLE, data, "BENCH")

    def online() -> bool:
        with daemon.catalog.read() as session:
            states = session.execute(select(Copy.state, Volume.removable).join(Volume)).all()
        there = [state for state, removable in states if removable and state == CopyState.VERIFIED]
        left = [state for state, removable in states if not removable and state != CopyState.RELEASED]
        return len(there) < studies or bool(left)

    _until(daemon, lambda: not online(), "the studies are not on tape")
    return uids


def recall_all(daemon: Daemon, uids: Sequence[str], rng: random.Random) -> list[Recalled]:
    """Ask for each study once, at random moments, and listen to what the recalls say."""
    clock = daemon.catalog.clock
    wanted = rng.sample(uids, len(uids))
    shelved = _shelve(daemon, rng)
    found: dict[int, Recalled] = {}
    walks: dict[str, float] = {}
    next_at, begun = clock.monotonic(), clock.monotonic()
    while wanted or any(not each.ended for each in found.values()):
        now = clock.monotonic()
        if now - begun > GIVE_UP_SECONDS:
            raise Permanent("the recalls of the benchmark do not end")
        if wanted and now >= next_at:
            uid = wanted.pop()
            asked = daemon.parts.packages.recall.request_study(uid, Priority.ROUTINE, "bench")
            for pk in asked["requests"]:  # type: ignore[attr-defined]
                found[pk] = Recalled(_on(daemon, uid) in shelved, clock.monotonic())
            next_at = now + rng.expovariate(1 / BETWEEN_SECONDS)
        _walk(daemon, walks, rng)
        _listen(daemon, found)
        time.sleep(LOOK_SECONDS / getattr(clock, "speed", 1.0))
    return list(found.values())


def _listen(daemon: Daemon, found: dict[int, Recalled]) -> None:
    live = [pk for pk, each in found.items() if not each.ended]
    with daemon.catalog.read() as session:
        query = select(Request.pk, Request.finished_at).where(
            Request.pk.in_(live), Request.state == RequestState.DONE
        )
        ends = {pk: finished for pk, finished in session.execute(query) if finished is not None}
    now, at = daemon.catalog.clock.now(), daemon.catalog.clock.monotonic()
    for pk, finished in ends.items():
        found[pk].ended = at - (now - finished).total_seconds()
    numbers = {pk: number for number, pk in enumerate(found)}
    for pk, eta in daemon.parts.work.etas.of([pk for pk in live if pk not in ends]).items():
        if eta.seconds != 0.0:
            each = found[pk]
            each.said.append(Said(at, eta.seconds, eta.reason, numbers[pk], not each.said))


def _shelve(daemon: Daemon, rng: random.Random) -> set[str]:
    """Some of the cartridges go to the shelf."""
    with daemon.catalog.read() as session:
        names = sorted(set(session.scalars(select(Volume.name).join(Copy).where(Volume.removable))))
    chosen = set(rng.sample(names, len(names) // 3))
    for name in chosen:
        _until(daemon, partial(_export, daemon, name), f"{name} stays in the library")
    return chosen


def _export(daemon: Daemon, barcode: str) -> bool:
    with suppress(HsmError, DriverError):
        daemon.parts.media.custody.export(barcode, "B3", "bench")
        return True
    return False


def _walk(daemon: Daemon, walks: dict[str, float], rng: random.Random) -> None:
    """Who is asked for a cartridge brings it, minutes later."""
    now = daemon.catalog.clock.monotonic()
    with daemon.catalog.read() as session:
        asked = [each.barcode for each in prompts.open_prompts(session)]
    for barcode in asked:
        due = walks.setdefault(barcode, now + rng.uniform(*WALK_SECONDS))
        if now >= due:
            with suppress(HsmError, DriverError):
                daemon.parts.media.custody.operator_done(barcode, "bench")
                del walks[barcode]


def _on(daemon: Daemon, uid: str) -> str:
    with daemon.catalog.read() as session:
        return (
            session.scalars(
                select(Volume.name)
                .join(Copy, Copy.volume_pk == Volume.pk)
                .join(Package, Package.pk == Copy.package_pk)
                .join(Study, Study.pk == Package.study_pk)
                .where(Study.uid == uid, Volume.place == Place.SHELF)
            ).first()
            or ""
        )


def _until(daemon: Daemon, ready: Callable[[], bool], why: str) -> None:
    clock = daemon.catalog.clock
    end = clock.monotonic() + GIVE_UP_SECONDS
    while not ready():
        if clock.monotonic() > end:
            raise Permanent(why)
        time.sleep(0.05)


def _header(uid: str) -> Header:
    texts: dict[str, Any] = dict.fromkeys(
        name
        for name, kind in Header.__annotations__.items()
        if kind == "str" and name not in ("study_uid", "series_uid", "sop_instance_uid", "sop_class_uid")
    )
    texts = dict.fromkeys(texts, "")
    return Header(
        **texts
        | {
            "patient_id": uid.rpartition(".")[2],
            "patient_name": "Bench^Eta",
            "modality": "CT",
            "study_uid": uid,
            "series_uid": f"{uid}.1",
            "sop_instance_uid": f"{uid}.1.1",
            "sop_class_uid": CT_IMAGE,
            "series_number": 1,
            "instance_number": 1,
        }
    )
