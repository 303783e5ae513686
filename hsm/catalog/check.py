"""Consistency of the catalog with itself, asked in SQL. Reads only; what to do is in each finding.

What the database already refuses (states, foreign keys on PostgreSQL, two live requests of one key)
is not asked again. Whether the journal's chain is whole is :func:`hsm.catalog.chaincheck.verify`;
whether the bytes are on the media is an audit.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsm.catalog.check_studies import STUDIES, placements
from hsm.catalog.findings import Check, by_hand, run
from hsm.catalog.findings import Finding as Finding

LIMIT_EACH = 1000
"""Findings of one check; one that was cut says so by having this many."""


def check(session: Session, limit: int = LIMIT_EACH) -> list[Finding]:
    """Every inconsistency, at most ``limit`` of each check. Scans the instance table a few times."""
    return [
        *_integrity(session, limit),
        *_counters(session, limit),
        *placements(session, limit),
        *(finding for one in _CHECKS for finding in run(session, one, limit)),
    ]


def _integrity(session: Session, limit: int) -> Iterator[Finding]:
    """SQLite's own checks: of the file, and of foreign keys (a program may write without them)."""
    if session.get_bind().dialect.name != "sqlite":
        return
    for (message,) in session.execute(text(f"PRAGMA quick_check({limit:d})")):
        if message != "ok":
            yield Finding("file", "catalog", "SQLite file", message, "restore the catalog from its backup")
    rows = session.execute(text("PRAGMA foreign_key_check")).fetchmany(limit)
    for table, row_id, parent, _ in rows:
        yield Finding(
            "reference",
            table,
            f"row {row_id}",
            f"it refers to a row of {parent} that does not exist",
            f"restore the catalog from its backup, or mend {table} where rowid = {row_id} by hand",
        )


_COUNTED = ("n_series", "n_instances", "n_bytes", "unsealed", "packages")

_COUNTERS = """
WITH hidden AS (
    SELECT hidden_instance.instance_pk, max(CASE WHEN deletion.kind = 'trash' THEN 1 ELSE 0 END) AS in_trash
      FROM hidden_instance JOIN deletion ON deletion.pk = hidden_instance.deletion_pk
     GROUP BY hidden_instance.instance_pk
), per_series AS (
    SELECT series_pk, count(DISTINCT CASE WHEN hidden.instance_pk IS NULL THEN uid END) AS n_instances,
           sum(CASE WHEN hidden.in_trash = 1 THEN 0 ELSE size END) AS n_bytes,
           sum(CASE WHEN package_pk IS NULL THEN 1 ELSE 0 END) AS unsealed
      FROM instance LEFT JOIN hidden ON hidden.instance_pk = instance.pk GROUP BY series_pk
), per_study AS (
    SELECT series.study_pk, sum(CASE WHEN per_series.n_instances = 0 THEN 0 ELSE 1 END) AS n_series,
           sum(per_series.n_instances) AS n_instances,
           sum(per_series.n_bytes) AS n_bytes, sum(per_series.unsealed) AS unsealed
      FROM series LEFT JOIN per_series ON per_series.series_pk = series.pk GROUP BY series.study_pk
), per_package AS (
    SELECT study_pk, count(*) AS packages FROM package GROUP BY study_pk
), counted AS (
    SELECT study.pk, coalesce(per_study.n_series, 0) AS n_series,
           coalesce(per_study.n_instances, 0) AS n_instances, coalesce(per_study.n_bytes, 0) AS n_bytes,
           coalesce(per_study.unsealed, 0) AS unsealed, coalesce(per_package.packages, 0) AS packages
      FROM study LEFT JOIN per_study ON per_study.study_pk = study.pk
                 LEFT JOIN per_package ON per_package.study_pk = study.pk
)
SELECT study.pk, study.uid, {pairs}
  FROM study JOIN counted ON counted.pk = study.pk
 WHERE {differ}
 ORDER BY study.pk LIMIT :limit
""".format(
    pairs=", ".join(f"study.{name} AS kept_{name}, counted.{name} AS true_{name}" for name in _COUNTED),
    differ=" OR ".join(f"study.{name} <> counted.{name}" for name in _COUNTED),
)


def _counters(session: Session, limit: int) -> Iterator[Finding]:
    """The counters that a study keeps, so that C-FIND and policies need not count, against the rows."""
    for row in session.execute(text(_COUNTERS), {"limit": limit}).mappings():
        for name in _COUNTED:
            kept, true = int(row[f"kept_{name}"]), int(row[f"true_{name}"])
            if kept != true:
                yield Finding(
                    "study-counter",
                    "study",
                    row["uid"],
                    f"{name} is {kept}, its rows say {true}",
                    by_hand(f"UPDATE study SET {name} = {true} WHERE pk = {row['pk']}"),
                )


_LIVE = "('writing', 'written', 'verified', 'suspect', 'releasing')"
_STANDING = "('queued', 'active', 'waiting')"

_PATIENTS = (
    Check(
        "empty-patient",
        "patient",
        """SELECT pk, patient_id, "key" AS subject FROM patient
           WHERE NOT EXISTS (SELECT 1 FROM study WHERE study.patient_pk = patient.pk)""",
        "Patient ID {patient_id!r} has no study",
        by_hand("DELETE FROM patient WHERE pk = {pk}"),
    ),
    Check(
        "empty-study",
        "study",
        """SELECT pk, uid AS subject FROM study
           WHERE NOT EXISTS (SELECT 1 FROM series JOIN instance ON instance.series_pk = series.pk
                              WHERE series.study_pk = study.pk)""",
        "it has no instance",
        "send the study again, or find out in `hsm study history {subject}` where its instances went",
    ),
    Check(
        "series-counter",
        "series",
        """SELECT series.pk, series.uid AS subject, series.n_instances AS kept,
                  count(DISTINCT instance.uid) AS true_count
             FROM series
             LEFT JOIN instance ON instance.series_pk = series.pk
                   AND NOT EXISTS (SELECT 1 FROM hidden_instance
                                    WHERE hidden_instance.instance_pk = instance.pk)
            GROUP BY series.pk, series.uid, series.n_instances
           HAVING series.n_instances <> count(DISTINCT instance.uid)""",
        "n_instances is {kept}, its rows say {true_count}",
        by_hand("UPDATE series SET n_instances = {true_count} WHERE pk = {pk}"),
    ),
    Check(
        "study-modalities",
        "study",
        # Not LIKE: a modality is a peer's text and may hold a wildcard.
        r"""SELECT study.pk, study.uid AS subject, study.modalities, min(series.modality) AS modality
              FROM study JOIN series ON series.study_pk = study.pk
             WHERE series.modality <> ''
               AND (series.n_instances > 0 OR NOT EXISTS (
                    SELECT 1 FROM instance WHERE instance.series_pk = series.pk))
               AND replace(study.modalities, '\' || series.modality || '\', '') = study.modalities
             GROUP BY study.pk, study.uid, study.modalities""",
        "it has a series of modality {modality!r}, its modalities are {modalities!r}",
        "stop the daemon, back the catalog up, and add it to study.modalities where pk = {pk}, sorted and"
        " enclosed by backslashes",
    ),
)

_PACKAGES = (
    Check(
        "package-counter",
        "package",
        """SELECT package.pk, package."key" AS subject, package.n_instances AS kept,
                  count(instance.pk) AS true_count
             FROM package LEFT JOIN instance ON instance.package_pk = package.pk
            GROUP BY package.pk, package."key", package.n_instances
           HAVING package.n_instances <> count(instance.pk)""",
        "its manifest lists {kept} instances, the catalog has {true_count} in it",
        "compare with the manifest on one of its copies (`hsm study locate` names them); rows are missing"
        " or do not belong",
    ),
    Check(
        "package-of-another-study",
        "instance",
        """SELECT instance.pk, instance.uid AS subject, package."key" AS package, study.uid AS study
             FROM instance JOIN series ON series.pk = instance.series_pk
                           JOIN study ON study.pk = series.study_pk
                           JOIN package ON package.pk = instance.package_pk
            WHERE package.study_pk <> series.study_pk""",
        "it is of study {study} but sealed in {package}",
        "compare with the manifest of {package}; restore the catalog from its backup",
    ),
    Check(
        "member-outside-package",
        "instance",
        """SELECT instance.pk, instance.uid AS subject, package."key" AS package, package.size AS size,
                  instance."offset" AS at, instance.size AS bytes
             FROM instance JOIN package ON package.pk = instance.package_pk
            WHERE instance."offset" < 512 OR instance."offset" + instance.size > package.size""",
        "its {bytes} bytes at offset {at} do not lie within {package} of {size} bytes",
        "compare with the manifest of {package}; restore the catalog from its backup",
    ),
    Check(
        "member-overlap",
        "package",
        """SELECT package.pk, package."key" AS subject, instance."offset" AS at, count(*) AS members
             FROM instance JOIN package ON package.pk = instance.package_pk
            GROUP BY package.pk, package."key", instance."offset" HAVING count(*) > 1""",
        "{members} instances begin at offset {at}",
        "compare with the manifest of {subject}; restore the catalog from its backup",
    ),
    Check(
        "digest-length",
        "instance",
        """SELECT pk, uid AS subject, length(digest) AS bytes FROM instance WHERE length(digest) <> 32""",
        "its SHA-256 has {bytes} bytes instead of 32",
        "compare with the manifest of its package; restore the catalog from its backup",
    ),
    Check(
        "no-copy",
        "package",
        f"""SELECT pk, "key" AS subject FROM package
            WHERE NOT EXISTS (SELECT 1 FROM copy WHERE copy.package_pk = package.pk AND state IN {_LIVE})
              AND NOT EXISTS (SELECT 1 FROM deleted_package WHERE deleted_package.package_pk = package.pk)""",
        "no copy is left",
        "find a volume that is marked lost (`hsm study history` names where copies were), or send the"
        " study again",
    ),
)

_MEDIA = (
    Check(
        "copy-on-retired-volume",
        "copy",
        f"""SELECT copy.pk, package."key" || ' on ' || volume.name AS subject, copy.state AS state
              FROM copy JOIN volume ON volume.pk = copy.volume_pk JOIN package ON package.pk = copy.package_pk
             WHERE volume.state = 'retired' AND copy.state IN {_LIVE}""",
        "it is {state} on a retired volume and does not count",
        "make the copies that policy demands (`hsm policy run`) before the volume leaves the house",
    ),
    Check(
        "copy-times",
        "copy",
        """SELECT copy.pk, package."key" || ' on ' || volume.name AS subject, copy.state AS state
             FROM copy JOIN volume ON volume.pk = copy.volume_pk JOIN package ON package.pk = copy.package_pk
            WHERE copy.state IN ('written', 'verified')
              AND (copy.written_at IS NULL OR copy.verified_at < copy.written_at)""",
        "it is {state}, but was never written, or was verified before it was written",
        by_hand("UPDATE copy SET state = 'suspect' WHERE pk = {pk}") + "; policy then makes another copy",
    ),
    Check(
        "volume-without-pool",
        "volume",
        f"""SELECT pk, name AS subject, state FROM volume
            WHERE pool IS NULL AND (state IN ('labelled', 'active', 'full')
                  OR EXISTS (SELECT 1 FROM copy
                              WHERE copy.volume_pk = volume.pk AND copy.state IN {_LIVE}))""",
        "it is {state} or holds copies, but belongs to no pool",
        by_hand("UPDATE volume SET pool = 'the pool on its label' WHERE pk = {pk}"),
    ),
    Check(
        "volume-used",
        "volume",
        """SELECT volume.pk, volume.name AS subject, volume.used AS used,
                  CAST(coalesce(sum(package.size), 0) AS BIGINT) AS held
             FROM volume LEFT JOIN copy ON copy.volume_pk = volume.pk
                              AND copy.state IN ('written', 'verified', 'suspect')
                         LEFT JOIN package ON package.pk = copy.package_pk
            GROUP BY volume.pk, volume.name, volume.used
           HAVING volume.used < coalesce(sum(package.size), 0)""",
        "{used} bytes are counted as used, its copies alone have {held}",
        by_hand("UPDATE volume SET used = {held} WHERE pk = {pk}"),
    ),
    Check(
        "volume-place",
        "volume",
        """SELECT pk, name AS subject, place FROM volume
            WHERE place IN ('slot', 'mail', 'drive') AND (library IS NULL OR element IS NULL)""",
        "it is in a {place}, but of no library or at no element",
        "take the inventory again: `hsm library inventory`",
    ),
    Check(
        "element-shared",
        "library",
        """SELECT library || ' element ' || element AS subject, library, min(name) AS first, max(name) AS last
             FROM volume WHERE place IN ('slot', 'mail', 'drive') AND library IS NOT NULL
            GROUP BY library, element HAVING count(*) > 1""",
        "{first} and {last} are both there",
        "take the inventory again: `hsm library inventory`",
    ),
)

_WORK = (
    Check(
        "request-about-nothing",
        "request",
        """SELECT pk, pk AS subject, kind FROM request
            WHERE (kind IN ('copy', 'verify', 'recall', 'release') AND package_pk IS NULL)
               OR (kind = 'seal' AND study_pk IS NULL)""",
        "a {kind} request that names no {kind} subject",
        "`hsm queue cancel {pk}`; whoever still wants it asks again",
    ),
    Check(
        "request-of-two-studies",
        "request",
        """SELECT request.pk, request.pk AS subject, package."key" AS package
             FROM request JOIN package ON package.pk = request.package_pk
            WHERE request.study_pk <> package.study_pk""",
        "its package {package} is of another study than the one it names",
        "`hsm queue cancel {pk}`; whoever still wants it asks again",
    ),
    Check(
        "request-times",
        "request",
        f"""SELECT pk, pk AS subject, state FROM request
             WHERE finished_at < created_at OR started_at < created_at OR attempts < 0
                OR (state = 'active' AND (started_at IS NULL OR worker = ''))
                OR (state IN {_STANDING} AND not_before IS NULL)""",
        "it is {state}, but nobody took it, or it started or ended before it was made",
        "restart the daemon, which takes back what nobody works on; then look at `hsm queue show {pk}`",
    ),
    Check(
        "waiting-for-nobody",
        "request",
        """SELECT request.pk, request.pk AS subject FROM request
            WHERE request.state = 'waiting' AND NOT EXISTS (
                  SELECT 1 FROM mount_request
                   WHERE mount_request.volume_pk = request.volume_pk AND mount_request.state = 'open')""",
        "it waits for a person, but nobody is asked for its volume",
        "`hsm queue cancel {pk}` and `hsm queue retry {pk}`",
    ),
    Check(
        "mount-request-times",
        "mount request",
        """SELECT mount_request.pk, volume.name AS subject, mount_request.state AS state
             FROM mount_request JOIN volume ON volume.pk = mount_request.volume_pk
            WHERE (mount_request.state = 'open') <> (mount_request.answered_at IS NULL)
               OR mount_request.answered_at < mount_request.created_at""",
        "it is {state}, but the time of its answer says otherwise",
        by_hand("UPDATE mount_request SET state = 'obsolete', answered_at = created_at WHERE pk = {pk}")
        + "; whoever still waits is asked for again",
    ),
)

_DELETIONS = (
    Check(
        "deleted-but-shown",
        "package",
        """SELECT package.pk, package."key" AS subject, count(*) AS shown
             FROM deleted_package JOIN package ON package.pk = deleted_package.package_pk
             JOIN series ON series.study_pk = package.study_pk
             JOIN instance ON instance.series_pk = series.pk AND instance.package_pk = package.pk
            WHERE NOT EXISTS (SELECT 1 FROM hidden_instance WHERE hidden_instance.instance_pk = instance.pk)
            GROUP BY package.pk, package."key" HAVING count(*) > 0""",
        "it was deleted, but {shown} of its instances are not hidden",
        "restore the catalog from its backup; until then place a hold on the study: nothing of it goes then",
    ),
)

_CHECKS = (*_PATIENTS, *_PACKAGES, *_MEDIA, *_WORK, *_DELETIONS, *STUDIES)
