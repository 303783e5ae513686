"""What studies have in common that shall share a volume, as a word that requests carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from policies.policy import Colocate


def together(by: Sequence[Colocate], values: Mapping[str, Any]) -> list[str]:
    """One word for each part, what counts most first: ``["patient=P1", "month=202601"]``.

    What is not known of a study is an empty word: such studies are alike in that.

    :param values: as :class:`policies.StudyFacts` has them, by source.
    """
    return [f"{part.value}={_value(part, values)}" for part in by]


def _value(part: Colocate, values: Mapping[str, Any]) -> str:
    match part:
        case Colocate.PATIENT:
            return str(values.get("patient_id") or "")
        case Colocate.MODALITY:
            codes = str(values.get("modalities") or "").strip("\\").split("\\")
            return next((code for code in codes if code not in ("SR", "PR", "KO")), codes[0])
        case Colocate.MONTH:
            return str(values.get("study_date") or "")[:6]
        case Colocate.YEAR:
            return str(values.get("study_date") or "")[:4]
