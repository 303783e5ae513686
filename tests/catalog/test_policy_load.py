"""A schedule that cannot carry what arrives is warned about, from what the catalog has seen arrive."""

from __future__ import annotations

from datetime import timedelta

from catalog_rows import add_packaged_study
from sqlalchemy import update

from hsm.catalog.engine import Catalog
from hsm.catalog.tables import Study
from hsm.policyrun import burden
from hsm.policyrun.frozen import frozen
from policies import PolicySet, PoolInfo, load_texts

POOLS = (PoolInfo("online", "disk", "online"), PoolInfo("tape", "tape", "nearline"))
TB = 10**12
NIGHTLY = """\
policy: nightly
priority: 10
scope: modality = CT
rules:
  - name: to tape
    copy to: tape
    when: received > 1 day and institution = 'A'
schedule: {every: 5 min, between: 20:00 and 06:00}
"""


def loaded(text: str = NIGHTLY) -> PolicySet:
    return load_texts({"p.yaml": text}, POOLS)


def arrive(catalog: Catalog, days: int, size: int, modality: str = "CT", institution: str = "A") -> None:
    """One study a day for so many days, up to now."""
    now = catalog.clock.now()
    for day in range(days):
        uid = f"1.{ord(modality[0])}.{len(institution)}.{day}"
        with catalog.write() as session:
            add_packaged_study(session, {f"{modality}-{institution}-{day}": "verified"}, uid)
            session.execute(
                update(Study)
                .where(Study.uid == uid)
                .values(
                    n_bytes=size,
                    modalities=f"\\{modality}\\",
                    institution=institution,
                    first_received=now - timedelta(days=days - day) + timedelta(minutes=1),
                )
            )


def said(catalog: Catalog, policies: PolicySet) -> list[str]:
    with frozen(catalog) as session:
        return [str(each) for each in burden.warnings(session, policies, catalog.clock.now())]


def test_a_window_that_is_too_short_for_what_arrives_is_told_with_both_lengths(catalog: Catalog) -> None:
    arrive(catalog, 10, 16 * TB)
    (warning,) = said(catalog, loaded())
    assert warning.startswith(
        "p.yaml:1:1: warning: policy 'nightly': its schedule cannot carry its load: needs "
    )
    assert (
        "needs 29.6 h of a 10 h window, most of it rule 'to tape' with 14.6 TiB a day at 150 MB/s" in warning
    )


def test_what_fits_is_not_warned_about(catalog: Catalog) -> None:
    arrive(catalog, 10, TB)
    assert said(catalog, loaded()) == []


def test_what_the_scope_or_the_rule_leaves_out_is_no_load(catalog: Catalog) -> None:
    arrive(catalog, 3, 16 * TB, modality="MR")
    arrive(catalog, 3, 16 * TB, institution="BB")
    assert said(catalog, loaded()) == []


def test_a_limit_of_a_run_that_lets_less_go_than_comes_is_told(catalog: Catalog) -> None:
    arrive(catalog, 10, TB)
    limited = NIGHTLY.replace("{every: 5 min, between: 20:00 and 06:00}", "cron 0 2 * * *")
    (warning,) = said(catalog, loaded(limited + "limits: {bytes per run: 100 GB}\n"))
    assert "its limit of 93.1 GiB per run lets 93.1 GiB a day go and" in warning


def test_an_archive_of_less_than_a_day_says_nothing_about_a_day(catalog: Catalog) -> None:
    arrive(catalog, 1, 90 * TB)
    assert said(catalog, loaded()) == []
