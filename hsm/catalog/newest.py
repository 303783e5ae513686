"""Of several versions of an instance, the one that peers are shown and sent."""

from __future__ import annotations

from sqlalchemy import ColumnElement, exists
from sqlalchemy.orm import aliased

from hsm.catalog.tables import Instance

_Newer = aliased(Instance)


def newest() -> ColumnElement[bool]:
    """The newest version in its series: one that came into another study is that study's.

    By UID, of which there are few versions: added to, the series' key cannot be looked up by instead.
    """
    return ~exists().where(
        _Newer.uid == Instance.uid,
        _Newer.version > Instance.version,
        _Newer.series_pk + 0 == Instance.series_pk,
    )
