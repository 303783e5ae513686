"""Whether what studies keep for policies is what their copies and series say."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsm.catalog.findings import Check, Finding

# As hsm.catalog.placements writes them. Pools are names of letters, digits, - and _.
_TRUE = """
WITH pools AS (
    SELECT package.study_pk, package.pk AS package_pk, volume.pool,
           sum(CASE WHEN copy.state = 'verified' AND volume.state IN ('labelled', 'active', 'full')
                    THEN 1 ELSE 0 END) AS good
      FROM package
      LEFT JOIN copy ON copy.package_pk = package.pk AND copy.state NOT IN ('released', 'lost')
      LEFT JOIN volume ON volume.pk = copy.volume_pk
     WHERE NOT EXISTS (SELECT 1 FROM deleted_package WHERE deleted_package.package_pk = package.pk)
     GROUP BY package.study_pk, package.pk, volume.pool
), packages AS (
    SELECT study_pk, package_pk, {join_pools} AS pattern
      FROM (SELECT study_pk, package_pk, pool, good FROM pools ORDER BY study_pk, package_pk, pool) AS ordered
     GROUP BY study_pk, package_pk
), studies AS (
    SELECT study_pk, {join_packages} AS pattern
      FROM (SELECT DISTINCT study_pk, pattern FROM packages ORDER BY study_pk, pattern) AS ordered
     GROUP BY study_pk
)
SELECT study.pk, study.uid, placement.pattern AS kept, studies.pattern AS found
  FROM study LEFT JOIN placement ON placement.pk = study.placement_pk
             LEFT JOIN studies ON studies.study_pk = study.pk
 WHERE coalesce(placement.pattern, '-') <> coalesce(studies.pattern, '-')
 ORDER BY study.pk LIMIT :limit"""

_JOINS = {
    "postgresql": {
        "join_pools": "coalesce(string_agg(pool || '=' || good, ',' ORDER BY pool), '')",
        "join_packages": "string_agg(pattern, ';' ORDER BY pattern)",
    },
    "sqlite": {
        "join_pools": "coalesce(group_concat(pool || '=' || good, ','), '')",
        "join_packages": "group_concat(pattern, ';')",
    },
}


REFRESH = "run `hsm catalog refresh`: it reads the rows again, and a daemon may go on meanwhile"


def placements(session: Session, limit: int) -> Iterator[Finding]:
    """A study whose placement is not what its copies say: policies would pass it over, or look at it in
    vain."""
    query = _TRUE.format(**_JOINS[session.get_bind().dialect.name])
    for row in session.execute(text(query), {"limit": limit}).mappings():
        kept, found = ("none" if row[name] is None else repr(str(row[name])) for name in ("kept", "found"))
        yield Finding(
            "study-placement",
            "study",
            row["uid"],
            f"its placement is {kept}, its copies say {found}",
            REFRESH,
        )


def _words(column: str, said: str) -> Check:
    """Sets of words against the rows, of studies of which nothing waits to be sealed."""
    return Check(
        "study-words",
        "study",
        f"""SELECT study.uid AS subject FROM study
             WHERE study.packages > 0 AND study.unsealed = 0 AND (
                   EXISTS (SELECT 1 FROM ({said}) AS said WHERE said.study_pk = study.pk AND NOT EXISTS (
                       SELECT 1 FROM word WHERE word.set_pk = study.{column} AND word.text = said.word))
                OR EXISTS (SELECT 1 FROM word WHERE word.set_pk = study.{column} AND NOT EXISTS (
                       SELECT 1 FROM ({said}) AS said
                        WHERE said.study_pk = study.pk AND said.word = word.text)))""",
        f"its set of {column} is not what its series and instances say",
        REFRESH,
    )


_SAID = {
    "body_parts": "SELECT study_pk, body_part AS word FROM series WHERE body_part <> ''",
    "stations": "SELECT study_pk, station AS word FROM series WHERE station <> ''",
    "sop_classes": "SELECT series.study_pk, name.uid AS word FROM instance"
    " JOIN series ON series.pk = instance.series_pk JOIN name ON name.pk = instance.class_pk",
}

WORDS = tuple(_words(column, said) for column, said in _SAID.items())
STUDIES = (
    *WORDS,
    Check(
        "placement-parts",
        "placement",
        """SELECT pattern AS subject FROM placement WHERE NOT EXISTS (
               SELECT 1 FROM placement_pool WHERE placement_pool.placement_pk = placement.pk)""",
        "it is not taken apart: policies read it as nowhere",
        REFRESH,
    ),
    Check(
        "hold-lifted",
        "hold",
        """SELECT study.uid AS subject, hold.pk FROM hold JOIN study ON study.pk = hold.study_pk
            WHERE hold.lifted_at IS NOT NULL AND (hold.lifted_by = '' OR hold.lifted_at < hold.placed_at)""",
        "hold {pk} was lifted by nobody, or before it was placed",
        "ask in `hsm study history {subject}` who lifted it",
    ),
)
