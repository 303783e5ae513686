"""The instances that a retrieve asks for."""

from __future__ import annotations

import itertools
from typing import Any

from sqlalchemy.orm import InstrumentedAttribute, Session

from hsm.catalog import hiding, instances
from hsm.catalog.newest import newest
from hsm.catalog.portions import chunks
from hsm.catalog.tables import Instance, Patient, Series, Study
from hsm.model import InstanceRef, Selection

KEYS_AT_ONCE = 5000
"""Keys in one IN list; SQLite allows 32,766 parameters in a statement."""


def select_instances(
    session: Session, selection: Selection, *, sees_rejected: bool = False
) -> list[InstanceRef]:
    """The instances that a retrieve asks for, in each series the newest versions only, in viewing order,
    and nothing of what is hidden.

    Study by study; in each by series number and instance number, those without a number last, then
    by UID.
    """
    keys: list[tuple[InstrumentedAttribute[str], tuple[str, ...]]] = [
        (Patient.patient_id, selection.patient_ids),
        (Study.uid, selection.study_uids),
        (Series.uid, selection.series_uids),
        (Instance.uid, selection.sop_instance_uids),
    ]
    narrowing = [
        [column.in_(chunk) for chunk in chunks(values, KEYS_AT_ONCE)] for column, values in keys if values
    ]
    query = (
        instances.instance_columns()
        .add_columns(Study.pk, Series.number, Instance.number)
        .join(Patient, Patient.pk == Study.patient_pk)
        .where(newest(), ~hiding.hidden(sees_rejected=sees_rejected))
    )
    found: dict[int, tuple[tuple[Any, ...], InstanceRef]] = {}
    for conditions in itertools.product(*narrowing):
        for *columns, study_pk, series_number, number in session.execute(query.where(*conditions)):
            instance = InstanceRef(*columns)
            order = (
                study_pk,
                *(series_number is None, series_number or 0, instance.series_uid),
                *(number is None, number or 0, instance.sop_instance_uid),
            )
            found[instance.pk] = (order, instance)
    return [instance for _, instance in sorted(found.values(), key=lambda each: each[0])]
