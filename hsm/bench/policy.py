"""``hsm bench policy``: does a policy's run cost what it matches, or what the archive is?

Archives of several sizes are made in PostgreSQL, study by study (patients, studies, packages, copies; no
series and no instances). In each the same few studies are idle for years or lack a copy, and everything
else is in order. What is timed is a dry run: the statement that selects, the facts, the decisions.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from sqlalchemy import text
from sqlalchemy.orm import Session

from drivers.base import Capacity, Store
from hsm.bench.archive import Row, Shape, batches
from hsm.bench.databases import Database, catalogs
from hsm.bench.fill import fill, settle
from hsm.bench.frame import Cell, Report, Table, machine
from hsm.catalog import placements, selecting
from hsm.catalog.engine import Catalog
from hsm.model import Layout, Tier
from hsm.policyrun import select
from hsm.policyrun.execute import Execution, Joints
from hsm.policyrun.fills import pool_fills
from hsm.policyrun.frozen import frozen
from hsm.policyrun.select import Question
from hsm.pools import DiskPool, Pools
from hsm.wake import Bell
from policies import PolicySet, fills_of, load_texts

BASE = 100_000
"""Studies that are made row by row; more are copies of them."""
SOME, MORE = 1_000, 10_000
"""Studies that rules mean, whatever the archive's size."""
COPIED = ("online", "nearline")
ROWS = ("patient", "study", "package", "copy")

POLICY = """\
policy: bench
priority: 1
copies: {nearline: 1}
rules:
  - {name: rule, RULE}
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One rule, and how many studies it means."""

    name: str
    rule: str
    matches: int | None
    """None: all of the archive."""


CASES = (
    Case("release, none is due", "release from: online, when: idle > 9 years", 0),
    Case("release, idle > 3 years", "release from: online, when: idle > 3 years, order by: idle desc", SOME),
    Case("release, idle > 2 years", "release from: online, when: idle > 2 years, order by: idle desc", MORE),
    Case("copy what lacks", "copy to: nearline", MORE),
    Case("release, idle > 30 days", "release from: online, when: idle > 30 days", None),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One case on one archive."""

    studies: int
    case: str
    matched: int
    first: float
    """Seconds to the first page of candidates."""
    total: float
    grown_mib: float
    """By which the process's memory was larger at its peak than before."""
    broken_off: bool


def run(sizes: Sequence[int], folder: Path, *, at_most: int, say: Any) -> Report:
    """Make the archives one after the other, and measure every case on each.

    :param at_most: studies after which a run that matches all is broken off.
    """
    found: list[Measured] = []
    notes = []
    with catalogs(Database.POSTGRESQL, folder) as make:
        for studies in sizes:
            catalog = make()
            began = time.monotonic()
            prepare(catalog, studies, say)
            notes.append(f"{studies} studies were made in {time.monotonic() - began:.0f} s")
            for case in CASES:
                measured = measure(catalog, case, studies, at_most)
                say(f"{studies} studies, {case.name}: {measured.matched} in {measured.total:.1f} s")
                found.append(measured)
            asked = ask(catalog, studies)
            notes.append(
                f"{studies} studies: a real run made {asked[0]} requests in {asked[1]:.1f} s, "
                f"by {asked[2]:.0f} MiB"
            )
            catalog.close()
    return _report(found, notes, at_most)


def prepare(catalog: Catalog, studies: int, say: Any) -> None:
    """An archive of so many studies: a multiple of :data:`BASE`, or fewer."""
    base = min(BASE, studies)
    say(f"making {studies} studies")
    fill(catalog, _rows(Shape(base, series=1, instances=1, copies=len(COPIED))))
    with catalog.write() as session:
        placements.refresh(session, range(1, base + 1))
    _grow(catalog, base, studies // base)
    _spread(catalog, studies)
    settle(catalog)


def _rows(shape: Shape) -> Iterator[tuple[str, list[Row]]]:
    for table, rows in batches(shape):
        if table not in ("name", "series", "instance"):
            yield table, rows


def _grow(catalog: Catalog, base: int, factor: int) -> None:
    """Copies of what is there, with keys and UIDs of their own; indexes are made again at the end."""
    with catalog.engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("SET LOCAL synchronous_commit = off"))
        connection.execute(text("SET LOCAL maintenance_work_mem = '1GB'"))
        indexes = connection.execute(_INDEXES, {"tables": list(ROWS)}).all() if factor > 1 else []
        unique = connection.execute(_UNIQUE, {"tables": list(ROWS)}).all() if factor > 1 else []
        for table, name, _ in unique:
            connection.execute(text(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"'))
        for name, _ in indexes:
            connection.execute(text(f'DROP INDEX "{name}"'))
        patients = connection.execute(text("SELECT max(pk) FROM patient")).scalar_one()
        shifts = {"patient": patients, "study": base, "package": base, "copy": base * len(COPIED)}
        for table in ROWS:
            _multiply(connection, table, shifts, factor)
        for table, name, definition in unique:
            connection.execute(text(f'ALTER TABLE {table} ADD CONSTRAINT "{name}" {definition}'))
        for _, definition in indexes:
            connection.execute(text(definition))


_INDEXES = text(
    "SELECT indexname, indexdef FROM pg_indexes"
    " WHERE schemaname = 'public' AND tablename = ANY(:tables)"
    " AND indexname NOT IN (SELECT conname FROM pg_constraint)"
)
_UNIQUE = text(
    "SELECT relname, conname, pg_get_constraintdef(pg_constraint.oid) FROM pg_constraint"
    " JOIN pg_class ON pg_class.oid = conrelid WHERE contype = 'u' AND relname = ANY(:tables)"
)
_KEYS = {
    "patient": {"pk": "patient"},
    "study": {"pk": "study", "patient_pk": "patient"},
    "package": {"pk": "package", "study_pk": "study"},
    "copy": {"pk": "copy", "package_pk": "package"},
}
_NAMES = {"patient": ("key",), "study": ("uid",), "package": ("key",), "copy": ()}


def _multiply(connection: Any, table: str, shifts: dict[str, int], factor: int) -> None:
    query = text("SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(:name) AND attnum > 0")
    columns = list(connection.execute(query, {"name": f"public.{table}"}).scalars())
    values = []
    for column in columns:
        if column in _KEYS[table]:
            values.append(f'"{column}" + k * {shifts[_KEYS[table][column]]}')
        elif column in _NAMES[table]:
            values.append(f"\"{column}\" || '.' || k")
        else:
            values.append(f'"{column}"')
    names = ", ".join(f'"{column}"' for column in columns)
    connection.execute(
        text(
            f"INSERT INTO {table} ({names}) SELECT {', '.join(values)}"
            f" FROM generate_series(1, {factor - 1}) AS k, {table}"
        )
    )


def _spread(catalog: Catalog, studies: int) -> None:
    """Most studies were used half a year ago, some years ago, and some lack a copy."""
    now = datetime.now(UTC)
    every, seldom = max(1, studies // MORE), max(1, studies // SOME)
    with catalog.engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        for days, condition in (
            (1300, f"pk % {seldom} = 0"),
            (900, f"pk % {every} = 0 AND pk % {seldom} <> 0"),
        ):
            at = now - timedelta(days=days)
            connection.execute(text(f"UPDATE study SET last_accessed = :at WHERE {condition}"), {"at": at})
        connection.execute(
            text(f"DELETE FROM copy WHERE volume_pk = 2 AND package_pk % {every} = {every // 2}")
        )
    keys = range(every // 2 or every, studies + 1, every)
    with catalog.write() as session:
        placements.refresh(session, keys)


def measure(catalog: Catalog, case: Case, studies: int, at_most: int) -> Measured:
    """One dry run."""
    pools, loaded = _pools(), _policies(case)
    policy = loaded.policies[0]
    with frozen(catalog) as session:
        question = _question(session, pools, loaded)
        began = time.monotonic()
        next(iter(select.pages(session, question)), None)
        first = time.monotonic() - began
    before = _begin_peak()
    began = time.monotonic()
    stops = case.matches is None and studies > at_most
    if stops:
        text_ = POLICY.replace("RULE", case.rule) + f"limits: {{studies per run: {at_most}}}\n"
        loaded = load_texts({"bench.yaml": text_}, pools.infos)
        policy = loaded.policies[0]
    report = Execution(_joints(catalog, pools), loaded, policy, "bench").dry()
    total = time.monotonic() - began
    return Measured(studies, case.name, report.matched, first, total, _peak() - before, stops)


def ask(catalog: Catalog, studies: int) -> tuple[int, float, float]:
    """A run that asks: (requests, seconds, MiB)."""
    pools = _pools()
    loaded = _policies(CASES[3])
    before, began = _begin_peak(), time.monotonic()
    report = Execution(_joints(catalog, pools), loaded, loaded.policies[0], "bench").run()
    return report.requests, time.monotonic() - began, _peak() - before


def _policies(case: Case) -> PolicySet:
    return load_texts({"bench.yaml": POLICY.replace("RULE", case.rule)}, _pools().infos)


def _question(session: Session, pools: Pools, loaded: PolicySet) -> Question:
    policy = loaded.policies[0]
    fills = fills_of(pool_fills(session, pools))
    return Question(loaded, policy, policy.rules[0], datetime.now(UTC), fills, loaded.pools)


def _joints(catalog: Catalog, pools: Pools) -> Joints:
    return Joints(catalog, pools, Bell(), "bench")


class _Room:
    """A Store of which only the room is asked for."""

    def capacity(self) -> Capacity:
        return Capacity(total=2**50, free=2**49)


def _pools() -> Pools:
    tiers = {"online": Tier.ONLINE, "nearline": Tier.NEARLINE}
    store = cast(Store, _Room())
    return Pools(
        {
            name: DiskPool(name, tiers[name], Layout.PACKAGES, Path(), store, number)
            for number, name in enumerate(COPIED, 1)
        },
        {},
        {},
    )


def _begin_peak() -> float:
    """Begin to look for the peak anew; MiB in use now."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    return _peak()


def _peak() -> float:
    """MiB in use at the peak since :func:`_begin_peak`."""
    with open("/proc/self/status", encoding="ascii") as file:
        found = next(line for line in file if line.startswith("VmHWM:"))
    return int(found.split()[1]) / 1024


def _report(found: Sequence[Measured], notes: list[str], at_most: int) -> Report:
    rows: list[tuple[Cell, ...]] = [
        (
            each.case,
            each.studies,
            f"{each.matched}{' (broken off)' if each.broken_off else ''}",
            f"{each.first:.3f}",
            f"{each.total:.1f}",
            f"{each.grown_mib:.0f}",
        )
        for each in found
    ]
    table = Table(
        "dry runs",
        ("rule", ">studies", ">matches", ">first page, s", ">all, s", ">memory grew by, MiB"),
        tuple(rows),
    )
    return Report(
        "policy",
        machine(),
        {"database": "postgresql", "page": selecting.PAGE, "broken off after": at_most},
        (table,),
        tuple({name: getattr(each, name) for name in Measured.__slots__} for each in found),
        tuple(notes),
    )
