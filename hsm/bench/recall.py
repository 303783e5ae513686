"""``hsm bench recall``: in which order are the packages of a cartridge read, and what does that save?

On models of drives, since nobody has a hundred full cartridges to wait for: random packages on a full
cartridge, read in the order they were asked for (FIFO), in the order they lie (by block), always the nearest
next (shortest locate first, as tape archives do), and in ours. Every order is also priced on a drive that
differs from the model it was planned with: each coefficient of the locate cost is off by up to 30 %.

Then a mixed day, see :mod:`hsm.bench.day`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from hsm import planner
from hsm.bench import day
from hsm.bench.frame import Report, Spread, Table, machine
from hsm.planner import Extent, LocateCost
from hsm.planner.locate import exact_order, nearest_order
from policies.whatif.tape import LTO8, LTO9, Coefficients, DriveModel

MODELS = (LTO8, LTO9)
FILES = (4, 16, 64, 256)
PERTURBATION = 0.3
PACKAGE_BYTES = (50_000_000, 800_000_000)
EXACT = (6, 8, 10, 12)
SEED = 20

Order = Callable[[Sequence[Extent], LocateCost], Sequence[int]]


def fifo(extents: Sequence[Extent], _cost: LocateCost) -> Sequence[int]:
    return range(len(extents))


def by_block(extents: Sequence[Extent], _cost: LocateCost) -> Sequence[int]:
    return sorted(range(len(extents)), key=lambda index: extents[index].start)


def nearest(extents: Sequence[Extent], cost: LocateCost) -> Sequence[int]:
    return nearest_order(extents, 0, cost)


def ours(extents: Sequence[Extent], cost: LocateCost) -> Sequence[int]:
    return planner.best_order(extents, 0, cost)


ORDERS: dict[str, Order] = {"FIFO": fifo, "by block": by_block, "nearest next": nearest, "hsm": ours}


@dataclass(frozen=True, slots=True)
class Tape:
    """A full cartridge: what the planner believes of its drive, and the drive."""

    believed: LocateCost
    real: LocateCost
    extents: tuple[Extent, ...]

    def seconds(self, order: Order) -> tuple[float, float]:
        """Spent on locating: as believed, and in truth."""
        chosen = [self.extents[index] for index in order(self.extents, self.believed)]
        return planner.path_cost(chosen, 0, self.believed), planner.path_cost(chosen, 0, self.real)


def perturbed(model: DriveModel, rng: random.Random) -> DriveModel:
    """A drive like the model, each coefficient off by up to 30 % either way."""
    known = model.coefficients
    off = {
        name: getattr(known, name) * rng.uniform(1 - PERTURBATION, 1 + PERTURBATION)
        for name in Coefficients.__slots__
    }
    return replace(model, coefficients=Coefficients(**off))


def scattered(model: DriveModel, files: int, rng: random.Random) -> Tape:
    """Packages anywhere on the cartridge; one in ten follows on the one before, as studies of a day do."""
    extents: list[Extent] = []
    for _ in range(files):
        size = rng.randint(*PACKAGE_BYTES)
        if extents and rng.random() < 0.1:
            start = min(extents[-1].end, model.volume_bytes - size)
        else:
            start = rng.randrange(model.volume_bytes - size)
        extents.append(Extent(start, start + size))
    return Tape(planner.tape_cost(model), planner.tape_cost(perturbed(model, rng)), tuple(extents))


def run(cases: int, comparisons: int, days: int, say: Callable[[str], None]) -> Report:
    """All of it.

    :param cases: cartridges for each model and number of packages (fewer where there are many packages).
    :param comparisons: random cases in which ours is compared with FIFO one by one.
    :param days: mixed days, for each model.
    """
    measurements: list[dict[str, Any]] = []
    rows = []
    for model in MODELS:
        for files in FILES:
            say(f"{model.name}, {files} packages")
            found = _mean_locates(model, files, max(5, cases * 16 // max(files, 16)))
            measurements.append({"model": model.name, "packages": files} | found)
            for real in (False, True):
                seconds = found["perturbed" if real else "nominal"]
                ratio = seconds["by block"] / seconds["hsm"]
                name = f"{model.name} ± 30 %" if real else model.name
                rows.append((name, files, *(round(seconds[each], 1) for each in ORDERS), round(ratio, 2)))
    say(f"{comparisons} random cases against FIFO")
    never = _against_fifo(comparisons)
    say("against the best order there is")
    exact = list(_against_exact(max(10, cases)))
    drives = [(model, partial(perturbed, model)) for model in MODELS]
    day_tables, day_measurements = day.run(drives, days, SEED, say)
    measurements += day_measurements
    measurements += [{"against": "FIFO"} | never, *({"against": "optimum"} | each for each in exact)]
    return Report(
        "recall",
        machine(),
        {"cartridges": cases, "comparisons": comparisons, "days": days, "seed": SEED},
        (
            Table(
                "Mean seconds of locating for a package on a full cartridge",
                ("drive", ">packages", *(f">{each}" for each in ORDERS), ">by block / hsm"),
                tuple(rows),
            ),
            Table(
                f"Ours against FIFO, {comparisons} random cases of 1 to 100 packages",
                ("drive", ">cases with more than FIFO", ">hsm / FIFO"),
                tuple((each, never[each]["worse"], never[each]["ratio"]) for each in ("model", "perturbed")),
            ),
            Table(
                "Ours against the best order (exact search)",
                (">packages", ">cases", ">hsm / optimum, mean", ">worst", ">nearest next / optimum, mean"),
                tuple(
                    (each["packages"], each["cases"], each["mean"], each["worst"], each["nearest"])
                    for each in exact
                ),
            ),
            *day_tables,
        ),
        tuple(measurements),
    )


def _mean_locates(model: DriveModel, files: int, cases: int) -> dict[str, Any]:
    rng = random.Random(f"{SEED} {model.name} {files}")
    sums = {kind: dict.fromkeys(ORDERS, 0.0) for kind in ("nominal", "perturbed")}
    took: list[float] = []
    for _ in range(cases):
        tape = scattered(model, files, rng)
        for name, order in ORDERS.items():
            began = time.perf_counter()
            nominal, real = tape.seconds(order)
            if name == "hsm":
                took.append(time.perf_counter() - began)
            sums["nominal"][name] += nominal / files / cases
            sums["perturbed"][name] += real / files / cases
    return sums | {"cases": cases, "planning_seconds": Spread.of(took).record()}


def _against_fifo(comparisons: int) -> dict[str, Any]:
    rng = random.Random(f"{SEED} fifo")
    found: dict[str, Any] = {}
    ratios: dict[str, list[float]] = {"model": [], "perturbed": []}
    for _ in range(comparisons):
        tape = scattered(rng.choice(MODELS), rng.randint(1, 100), rng)
        for kind, mine, given in zip(ratios, tape.seconds(ours), tape.seconds(fifo), strict=True):
            ratios[kind].append(mine / given if given else 1.0)
    for kind, values in ratios.items():
        worse = sum(value > 1 + 1e-9 for value in values)
        found[kind] = {"worse": worse, "ratio": Spread.of(values).text()}
    return found


def _against_exact(cases: int) -> Iterator[dict[str, Any]]:
    rng = random.Random(f"{SEED} exact")
    for files in EXACT:
        mine, theirs = [], []
        for _ in range(min(cases, 30)):
            tape = scattered(rng.choice(MODELS), files, rng)
            best = tape.seconds(exact_order_of)[0]
            mine.append(tape.seconds(ours)[0] / best)
            theirs.append(tape.seconds(nearest)[0] / best)
        yield {
            "packages": files,
            "cases": len(mine),
            "mean": round(sum(mine) / len(mine), 4),
            "worst": round(max(mine), 4),
            "nearest": round(sum(theirs) / len(theirs), 4),
        }


def exact_order_of(extents: Sequence[Extent], cost: LocateCost) -> Sequence[int]:
    return exact_order(extents, 0, cost)
