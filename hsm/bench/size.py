"""``hsm bench size``: what an instance costs in a PostgreSQL catalog, indexes included.

Instances arrive as they do in life: first in no package, then each study is sealed, which changes
every one of its rows. What the change leaves behind is cleared away when PostgreSQL's autovacuum
would do it, so the figure has the dead space of a running archive in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text

from hsm.bench import archive
from hsm.bench.archive import SIZE, Shape, Uids
from hsm.bench.databases import Database, catalogs
from hsm.bench.fill import fill
from hsm.bench.frame import Cell, Report, Table, machine
from hsm.catalog.engine import Catalog

SERIES = 4
INSTANCES_IN_SERIES = 60
GOAL_BYTES = 300
TABLES = ("instance", "series", "study", "patient", "package", "copy", "placement", "word")


@dataclass(slots=True)
class Vacuum:
    """Seals each batch of instances, and vacuums when autovacuum's rule says so.

    The rule (PostgreSQL's manual, section "The Autovacuum Daemon"): dead rows exceed
    ``threshold + scale_factor * rows``.
    """

    shape: Shape
    scale_factor: float
    threshold: int = 50
    rows: int = 0
    dead: int = 0
    runs: int = 0

    def after(self, connection: Any, table: str) -> None:
        if table != "instance":
            return
        with connection.cursor() as cursor:
            cursor.execute(_SEAL, {"size": SIZE + 512, "series": self.shape.series})
            sealed = cursor.rowcount
            connection.commit()
            self.rows += sealed
            self.dead += sealed
            if self.dead <= self.threshold + self.scale_factor * self.rows:
                return
            connection.autocommit = True
            cursor.execute("VACUUM instance")
            connection.autocommit = False
        self.dead, self.runs = 0, self.runs + 1


_SEAL = """
    UPDATE instance SET package_pk = series.study_pk, "offset" = 4096 + instance.pk * %(size)s
      FROM series WHERE series.pk = instance.series_pk AND instance.package_pk IS NULL"""


def run(
    instances: int, folder: Path, *, longest: bool, say: Callable[[str], None] = lambda _: None
) -> Report:
    """Fill, seal and weigh.

    :param instances: about how many; whole studies of four series of sixty are made.
    :raises ConfigError: PostgreSQL cannot be started here.
    """
    shape = Shape(
        max(1, instances // (SERIES * INSTANCES_IN_SERIES)),
        SERIES,
        INSTANCES_IN_SERIES,
        sealed=False,
        uids=Uids.LONGEST if longest else Uids.MIXED,
    )
    with catalogs(Database.POSTGRESQL, folder) as make:
        catalog = make()
        say(f"postgresql: filling {shape.total_instances:,} instances")
        vacuum = Vacuum(shape, _scale_factor(catalog))
        fill(catalog, archive.batches(shape), vacuum.after)
        say("postgresql: weighing, and again with its indexes built anew")
        relations = weigh(catalog)
        rebuild(catalog)
        rebuilt = weigh(catalog)
        length = _uid_length(shape)
    count = shape.total_instances
    rows = _rows(relations, rebuilt, count)
    total = sum(relations.values())
    return Report(
        "size",
        machine(),
        {"instances": count, "studies": shape.studies, "uid_characters": length, "vacuums": vacuum.runs},
        (Table("PostgreSQL: each table and index", _COLUMNS, rows),),
        (
            {
                "instances": count,
                "bytes": dict(relations),
                "bytes_rebuilt": dict(rebuilt),
                "bytes_an_instance": total / count,
                "bytes_an_instance_rebuilt": sum(rebuilt.values()) / count,
            },
        ),
        (f"goal: at most {GOAL_BYTES} bytes an instance",),
    )


def weigh(catalog: Catalog) -> Mapping[str, int]:
    """Bytes on disk of the tables an instance needs (their maps and long values with them) and of
    each of their indexes, greatest first."""
    query = """
        SELECT relname, pg_table_size(oid) FROM pg_class WHERE relname = ANY(:tables) AND relkind = 'r'
        UNION ALL
        SELECT index.relname, pg_relation_size(index.oid) FROM pg_index
          JOIN pg_class AS index ON index.oid = indexrelid JOIN pg_class AS main ON main.oid = indrelid
         WHERE main.relname = ANY(:tables)
         ORDER BY 2 DESC"""
    with catalog.engine.connect() as connection:
        rows = connection.execute(text(query), {"tables": list(TABLES)})
        return {str(name): int(size) for name, size in rows}


def rebuild(catalog: Catalog) -> None:
    """What an administrator may do once in a while: sealing leaves the indexes half empty."""
    with catalog.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("REINDEX TABLE CONCURRENTLY instance"))


_COLUMNS = ("relation", ">bytes", ">an instance", ">after REINDEX")
_SHOWN_MIN = 0.25
"""Bytes an instance; what is less is summed up."""


def _rows(
    relations: Mapping[str, int], rebuilt: Mapping[str, int], count: int
) -> tuple[tuple[Cell, ...], ...]:
    named = {name if size / count >= _SHOWN_MIN else "all others": 0 for name, size in relations.items()}
    now, then = dict(named), dict(named)
    for name, size in relations.items():
        shown = name if name in named else "all others"
        now[shown] += size
        then[shown] += rebuilt[name]
    now["all"], then["all"] = sum(now.values()), sum(then.values())
    return tuple(
        (name, f"{size:,}", round(size / count, 1), round(then[name] / count, 1))
        for name, size in now.items()
    )


def _scale_factor(catalog: Catalog) -> float:
    """Autovacuum's, for the table of instances."""
    query = """
        SELECT coalesce(
            (SELECT option_value FROM pg_class, pg_options_to_table(reloptions)
              WHERE relname = 'instance' AND option_name = 'autovacuum_vacuum_scale_factor'),
            current_setting('autovacuum_vacuum_scale_factor'))"""
    with catalog.engine.connect() as connection:
        return float(connection.execute(text(query)).scalar_one())


def _uid_length(shape: Shape) -> float:
    """Mean characters of SOP Instance UIDs, of the first thousand studies."""
    studies = range(min(1000, shape.studies))
    lengths = [len(next(archive.instance_uids(shape, study, 0))) for study in studies]
    return round(sum(lengths) / len(lengths), 1)
