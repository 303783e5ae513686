"""Reading again what studies keep for policies, where it is not what their rows say."""

from __future__ import annotations

from sqlalchemy import select, update

from hsm.catalog import check_studies, findings, placements, words
from hsm.catalog.engine import Catalog
from hsm.catalog.tables import Study

AT_ONCE = 500


def refresh_studies(catalog: Catalog) -> int:
    """Refresh every study that :mod:`hsm.catalog.check_studies` finds wrong; how many those were.

    Some hundred a transaction, so that others go on meanwhile.
    """
    mended: set[str] = set()
    with catalog.write() as session:
        placements.take_apart(session)
    while wrong := _wrong(catalog) - mended:  # what is wrong again at once is another's to mend
        for start in range(0, len(wrong), AT_ONCE):
            _refresh(catalog, sorted(wrong)[start : start + AT_ONCE])
        mended |= wrong
    return len(mended)


def _wrong(catalog: Catalog) -> set[str]:
    with catalog.read() as session:
        found = {each.subject for each in check_studies.placements(session, AT_ONCE)}
        for one in check_studies.WORDS:
            found |= {each.subject for each in findings.run(session, one, AT_ONCE)}
    return found


def _refresh(catalog: Catalog, uids: list[str]) -> None:
    with catalog.write() as session:
        pks = session.scalars(select(Study.pk).where(Study.uid.in_(uids)).order_by(Study.uid)).all()
        placements.refresh(session, pks)
        bare = placements.without_packages(session, pks)
        session.execute(update(Study).where(Study.pk.in_(bare)).values(placement_pk=None))
        for pk in pks:
            if pk not in bare:
                session.execute(update(Study).where(Study.pk == pk).values(**words.said_by(session, pk)))
