"""What a catalog of the first schema already knows, put where the second looks. Frozen with its migration."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from sqlalchemy import Connection, text

# A run that a crash left open would stand in the way of the next one for ever.
_RUNS = "UPDATE run SET finished_at = started_at, state = 'abandoned' WHERE finished_at IS NULL"

_RECALLS = """CREATE TEMPORARY TABLE recalls_0002 AS
SELECT study_pk, count(DISTINCT created_at) AS recalls
  FROM request WHERE kind = 'recall' AND study_pk IS NOT NULL GROUP BY study_pk"""

# Of each package its pools with the number of verified copies that count there; of each study the
# packages that differ. Pools are names of letters, digits, - and _, so that neither = nor , nor ; is in one.
_PATTERNS = """CREATE TEMPORARY TABLE pattern_0002 AS
WITH pools AS (
    SELECT package.study_pk, package.pk AS package_pk, volume.pool,
           sum(CASE WHEN copy.state = 'verified' AND volume.state IN ('labelled', 'active', 'full')
                    THEN 1 ELSE 0 END) AS good
      FROM package
      LEFT JOIN copy ON copy.package_pk = package.pk AND copy.state NOT IN ('released', 'lost')
      LEFT JOIN volume ON volume.pk = copy.volume_pk
     GROUP BY package.study_pk, package.pk, volume.pool
), packages AS (
    SELECT study_pk, package_pk, {join_pools} AS pattern
      FROM (SELECT study_pk, package_pk, pool, good FROM pools ORDER BY study_pk, package_pk, pool) AS ordered
     GROUP BY study_pk, package_pk
)
SELECT study_pk, {join_packages} AS pattern
  FROM (SELECT DISTINCT study_pk, pattern FROM packages ORDER BY study_pk, pattern) AS ordered
 GROUP BY study_pk"""

_POSTGRESQL = {
    "join_pools": "coalesce(string_agg(pool || '=' || good, ',' ORDER BY pool), '')",
    "join_packages": "string_agg(pattern, ';' ORDER BY pattern)",
}
_SQLITE = {
    "join_pools": "coalesce(group_concat(pool || '=' || good, ','), '')",
    "join_packages": "group_concat(pattern, ';')",
}


def fill(connection: Connection) -> None:
    """Read what studies lie in and what they say, then write each sealed study once. Reads the instances
    once."""
    dialect = connection.dialect.name
    joins = _POSTGRESQL if dialect == "postgresql" else _SQLITE
    for statement in (
        _RUNS,
        _RECALLS,
        _PATTERNS.format(**joins),
        "INSERT INTO placement (pattern) SELECT DISTINCT pattern FROM pattern_0002 ORDER BY pattern",
    ):
        connection.execute(text(statement))
    _take_apart(connection)
    _words(connection)
    if dialect == "postgresql":
        for table in ("pattern_0002", "recalls_0002", "sets_0002", *(f"{name}_0002" for name in _SAID)):
            connection.execute(text(f"ANALYZE {table}"))
    connection.execute(text(_STUDIES))
    for table in ("pattern_0002", "recalls_0002", "sets_0002", *(f"{name}_0002" for name in _SAID)):
        connection.execute(text(f"DROP TABLE {table}"))


_STUDIES = """UPDATE study SET placement_pk = found.placement, body_parts = found.body_parts,
       stations = found.stations, sop_classes = found.sop_classes, recalls = found.recalls
  FROM (SELECT study.pk, placement.pk AS placement, body_set.pk AS body_parts, station_set.pk AS stations,
               class_set.pk AS sop_classes, coalesce(recalls_0002.recalls, 0) AS recalls
          FROM study
          LEFT JOIN pattern_0002 ON pattern_0002.study_pk = study.pk
          LEFT JOIN placement ON placement.pattern = pattern_0002.pattern
          LEFT JOIN recalls_0002 ON recalls_0002.study_pk = study.pk
          LEFT JOIN body_parts_0002 ON body_parts_0002.study_pk = study.pk
          LEFT JOIN sets_0002 AS body_set ON body_set.words = body_parts_0002.words
          LEFT JOIN stations_0002 ON stations_0002.study_pk = study.pk
          LEFT JOIN sets_0002 AS station_set ON station_set.words = stations_0002.words
          LEFT JOIN sop_classes_0002 ON sop_classes_0002.study_pk = study.pk
          LEFT JOIN sets_0002 AS class_set ON class_set.words = sop_classes_0002.words
         WHERE study.packages > 0) AS found
 WHERE found.pk = study.pk"""


def _take_apart(connection: Connection) -> None:
    """The patterns' parts, for conditions."""
    rows = [
        {"placement": pk, "package": number, "pool": pool, "verified": int(verified or 0)}
        for pk, pattern in connection.execute(text("SELECT pk, pattern FROM placement")).all()
        for number, package in enumerate(pattern.split(";"))
        for pool, _, verified in (part.partition("=") for part in package.split(","))
    ]
    if rows:
        connection.execute(
            text("INSERT INTO placement_pool VALUES (:placement, :package, :pool, :verified)"), rows
        )


_SAID = {
    "body_parts": "SELECT DISTINCT study_pk, body_part AS word FROM series WHERE body_part <> ''",
    "stations": "SELECT DISTINCT study_pk, station AS word FROM series WHERE station <> ''",
    "sop_classes": """SELECT DISTINCT series.study_pk, name.uid AS word FROM instance
                        JOIN series ON series.pk = instance.series_pk
                        JOIN name ON name.pk = instance.class_pk""",
}


def _words(connection: Connection) -> None:
    """The sets of words of all sealed studies."""
    postgresql = connection.dialect.name == "postgresql"
    join = "string_agg(word, '\x1f' ORDER BY word)" if postgresql else "group_concat(word, '\x1f')"
    key = 'TEXT COLLATE "C"' if postgresql else "TEXT"
    connection.execute(text(f"CREATE TEMPORARY TABLE sets_0002 (words {key} PRIMARY KEY, pk INTEGER)"))
    known: set[str] = set()
    for column, said in _SAID.items():
        connection.execute(
            text(
                f"""CREATE TEMPORARY TABLE {column}_0002 AS SELECT study_pk, {join} AS words
                      FROM (SELECT study_pk, word FROM ({said}) AS said ORDER BY study_pk, word) AS ordered
                     WHERE study_pk IN (SELECT pk FROM study WHERE packages > 0) GROUP BY study_pk"""
            )
        )
        for joined in connection.scalars(text(f"SELECT DISTINCT words FROM {column}_0002")).all():
            if joined not in known:
                known.add(joined)
                pk = _insert_set(connection, joined.split("\x1f"))
                connection.execute(
                    text("INSERT INTO sets_0002 (words, pk) VALUES (:words, :pk)"),
                    {"words": joined, "pk": pk},
                )


def _insert_set(connection: Connection, members: Iterable[str]) -> int:
    found = sorted(members)
    digest = hashlib.sha256(
        b"".join(word.encode("utf-8", "surrogatepass") + b"\0" for word in found)
    ).digest()
    pk: int = connection.execute(
        text("INSERT INTO word_set (digest) VALUES (:digest) RETURNING pk"), {"digest": digest}
    ).scalar_one()
    connection.execute(
        text("INSERT INTO word (set_pk, text) VALUES (:pk, :word)"),
        [{"pk": pk, "word": word} for word in found],
    )
    return pk
