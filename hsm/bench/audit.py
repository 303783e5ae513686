"""``hsm bench audit``: how long ``hsm audit copies`` takes for a large archive, of now and of past times, and
``hsm audit media``.

Archives are made study by study (patients, studies, packages, two copies each; no series and no instances),
five hundred of them without their second copy; the journal has two records for each copy, and one more for
each study, of some day of the last year. Three policies own them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import text

from hsm.audit.copies import Asked, CopiesAudit
from hsm.audit.media import MediaAudit
from hsm.bench.archive import COLUMNS, Row, Shape, batches
from hsm.bench.databases import Database, catalogs
from hsm.bench.fill import fill, settle
from hsm.bench.frame import Cell, Report, Table, machine
from hsm.bench.policy import COPIED, _pools
from hsm.catalog import placements
from hsm.catalog.engine import Catalog
from policies import load_texts

LACKING = 500
"""Studies without their second copy, at most, whatever the archive's size."""
PAST_DAYS = (1, 30, 300)
"""A past time costs what has changed since: of these studies about 0.3 %, 8 % and 82 %."""
POLICIES = """\
policy: ct
priority: 1
scope: modality = CT
copies: {nearline: 1 within 1 day}
rules: [{name: copy, copy to: nearline}]
---
policy: images
priority: 2
scope: modality in (MR, US, XA)
copies: {online: 1 within 1 h, nearline: 1 within 7 days}
rules: [{name: copy, copy to: nearline}]
---
policy: rest
priority: 3
copies: {nearline: 1}
rules: [{name: copy, copy to: nearline}]
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """One report on one archive."""

    database: str
    studies: int
    of: str
    """``copies, now``, ``copies, 30 d ago`` or ``media, now``."""
    seconds: float
    lacking: int
    """Studies that it found without their copies, or with one good copy only."""


def run(
    sizes: Sequence[int],
    databases: Sequence[Database],
    folder: Path,
    *,
    past: bool,
    say: Callable[[str], None],
) -> Report:
    """Make the archives and audit each.

    :param past: also of yesterday, which needs the journal.
    """
    found: list[Measured] = []
    for database in databases:
        with catalogs(database, folder) as make:
            for studies in sizes:
                catalog = make()
                began = time.monotonic()
                prepare(catalog, studies, journal=past)
                say(f"{database}: {studies} studies were made in {time.monotonic() - began:.0f} s")
                for days in (0, *PAST_DAYS) if past else (0,):
                    found.append(measure(catalog, database, studies, days))
                    say(f"{database}, {studies} studies, {found[-1].of}: {found[-1].seconds:.1f} s")
                found.append(measure_media(catalog, database, studies))
                say(f"{database}, {studies} studies, {found[-1].of}: {found[-1].seconds:.1f} s")
                catalog.close()
    return _report(found)


def prepare(catalog: Catalog, studies: int, *, journal: bool) -> None:
    """An archive of so many studies."""
    every = max(1, studies // LACKING)
    fill(catalog, _rows(Shape(studies, series=1, instances=1, copies=len(COPIED)), every))
    with catalog.write() as session:
        # All lie alike when they are made; those that lack a copy lie otherwise.
        placements.refresh(session, range(1, min(studies, every) + 1))
        placements.refresh(session, range(every, studies + 1, every))
    if journal:
        _journal(catalog)
    settle(catalog)


def measure(catalog: Catalog, database: Database, studies: int, days: int) -> Measured:
    """One report of copies.

    :param days: how long ago; 0: now.
    """
    as_of = datetime.now(UTC) - timedelta(days=days) if days else None
    pools = _pools()
    loaded = load_texts({"bench.yaml": POLICIES}, pools.infos)
    audit = CopiesAudit(catalog, pools, lambda _: loaded)
    began = time.monotonic()
    report = audit.report(Asked(as_of=as_of))
    seconds = time.monotonic() - began
    of = f"copies, {days} d ago" if days else "copies, now"
    return Measured(database.value, studies, of, seconds, report["under_protected"])


def measure_media(catalog: Catalog, database: Database, studies: int) -> Measured:
    """The report of all volumes."""
    audit = MediaAudit(catalog, _pools())
    began = time.monotonic()
    report = audit.report()
    seconds = time.monotonic() - began
    last = sum(each["last_copy_of"]["studies"] for each in report["volumes"])
    return Measured(database.value, studies, "media, now", seconds, last)


def _rows(shape: Shape, every: int) -> Iterator[tuple[str, list[Row]]]:
    at, volume = COLUMNS["copy"].index("package_pk"), COLUMNS["copy"].index("volume_pk")
    for table, rows in batches(shape):
        if table == "copy":
            yield table, [row for row in rows if not (row[volume] == 2 and int(row[at] or 0) % every == 0)]
        elif table not in ("name", "series", "instance"):
            yield table, rows


def _journal(catalog: Catalog) -> None:
    """Two records for each copy when it was made, and one for each study's first copy later. Not chained."""
    postgresql = catalog.engine.dialect.name == "postgresql"
    later = "CURRENT_TIMESTAMP - package.pk % 365 * INTERVAL '1 day'"
    if not postgresql:
        later = "strftime('%Y-%m-%d %H:%M:%f000', 'now', '-' || (package.pk % 365) || ' days')"
    records = (
        ("copy.pk * 2", "package.sealed_at", "copy written", ""),
        ("copy.pk * 2 + 1", "package.sealed_at", "copy verified", ""),
        ("(SELECT max(pk) FROM copy) * 2 + 1 + copy.pk", later, "copy verified", " WHERE copy.volume_pk = 1"),
    )
    digest = "decode(repeat('00', 32), 'hex')" if postgresql else "zeroblob(32)"
    with catalog.engine.execution_options(hsm_write=True).begin() as connection:
        for number, at, verb, which in records:
            connection.execute(
                text(
                    "INSERT INTO journal (seq, at, actor, verb, kind, subject, detail, digest)"
                    f" SELECT {number}, {at}, 'migrate', '{verb}', 'study', study.uid,"
                    ' \'{"package"\\:"\' || package.key || \'","volume"\\:"\' || volume.name || \'"}\','
                    f" {digest} FROM copy JOIN package ON package.pk = copy.package_pk"
                    " JOIN study ON study.pk = package.study_pk JOIN volume ON volume.pk = copy.volume_pk"
                    f"{which}"
                )
            )


def _report(found: Sequence[Measured]) -> Report:
    rows: list[tuple[Cell, ...]] = [
        (each.database, each.studies, each.of, each.lacking, f"{each.seconds:.2f}") for each in found
    ]
    table = Table("hsm audit", ("database", ">studies", "of", ">lacking", ">seconds"), tuple(rows))
    return Report(
        "audit",
        machine(),
        {"policies": 3, "copies of each": len(COPIED)},
        (table,),
        tuple({name: getattr(each, name) for name in Measured.__slots__} for each in found),
    )
