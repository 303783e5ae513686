"""What a catalog of the first schema already knows, put where the second looks. Frozen with its migration."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from sqlalchemy import Connection, text

# A run that a crash left open would stand in the way of the next one for ever.
_RUNS = "UPDATE run SET finished_at = started_at, state = 'abandoned' WHERE finished_at IS NULL"

_RECALLS = """UPDATE study SET recalls = (
    SELECT count(DISTINCT created_at) FROM request WHERE request.study_pk = study.pk AND kind = 'recall')
 WHERE pk IN (SELECT study_pk FROM request WHERE kind = 'recall')"""

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


def statements(dialect: str) -> list[str]:
    """For ``sqlite`` or ``postgresql``, in order."""
    joins = _POSTGRESQL if dialect == "postgresql" else _SQLITE
    return [
        _RUNS,
        _RECALLS,
        _PATTERNS.format(**joins),
        "INSERT INTO placement (pattern) SELECT DISTINCT pattern FROM pattern_0002 ORDER BY pattern",
        """UPDATE study SET placement_pk = placement.pk FROM pattern_0002
             JOIN placement ON placement.pattern = pattern_0002.pattern
            WHERE pattern_0002.study_pk = study.pk""",
        "DROP TABLE pattern_0002",
    ]


def take_apart(connection: Connection) -> None:
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


def words(connection: Connection) -> None:
    """The sets of words of all sealed studies. Reads the instances once."""
    agg = "string_agg" if connection.dialect.name == "postgresql" else "group_concat"
    order = " ORDER BY word" if agg == "string_agg" else ""
    known: dict[str, int] = {}
    for column, said in _SAID.items():
        connection.execute(
            text(
                f"""CREATE TEMPORARY TABLE words_0002 AS SELECT study_pk, {agg}(word, '\x1f'{order}) AS words
                      FROM (SELECT study_pk, word FROM ({said}) AS said ORDER BY study_pk, word) AS ordered
                     WHERE study_pk IN (SELECT pk FROM study WHERE packages > 0) GROUP BY study_pk"""
            )
        )
        for joined in connection.scalars(text("SELECT DISTINCT words FROM words_0002")).all():
            if joined not in known:
                known[joined] = _insert_set(connection, joined.split("\x1f"))
        _fill(connection, column, known)
        connection.execute(text("DROP TABLE words_0002"))


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


def _fill(connection: Connection, column: str, known: dict[str, int]) -> None:
    connection.execute(text("CREATE TEMPORARY TABLE sets_0002 (words TEXT PRIMARY KEY, pk INTEGER)"))
    if known:
        connection.execute(
            text("INSERT INTO sets_0002 (words, pk) VALUES (:words, :pk)"),
            [{"words": words, "pk": pk} for words, pk in known.items()],
        )
    connection.execute(
        text(
            f"""UPDATE study SET {column} = sets_0002.pk FROM words_0002
                  JOIN sets_0002 ON sets_0002.words = words_0002.words WHERE words_0002.study_pk = study.pk"""
        )
    )
    connection.execute(text("DROP TABLE sets_0002"))
