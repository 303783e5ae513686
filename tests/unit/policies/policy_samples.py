"""Studies and policies for tests, as short as can be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from policies import Policy, PolicySet, StudyFacts, load_texts

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
POOLS = {"online", "nearline", "tape"}


def study(
    uid: str = "1.2", *, idle_days: float = 0, copies: dict[str, int] | None = None, **values: Any
) -> StudyFacts:
    defaults: dict[str, Any] = {
        "modalities": "\\CT\\",
        "study_date": "20260101",
        "received_at": NOW - timedelta(days=100),
        "accessed_at": NOW - timedelta(days=idle_days),
        "size": 100,
        "instances": 10,
        "institution": "St. Mary",
        "source_ae": "CT1",
        "accession": "A1",
        "description": "CT Thorax",
        "patient_id": "P1",
    }
    return StudyFacts(uid, defaults | values, copies if copies is not None else {"online": 1})


def policies(*rules: str, head: str = "copies: {nearline: 1, tape: 1}") -> PolicySet:
    """One policy with the rules given as YAML lines."""
    lines = "".join("  - " + rule.strip().replace("\n", "\n    ") + "\n" for rule in rules)
    return load_texts({"p.yaml": f"policy: p\npriority: 10\n{head}\nrules:\n{lines}"}, POOLS)


def policy(*rules: str, head: str = "copies: {nearline: 1, tape: 1}") -> Policy:
    return policies(*rules, head=head).policies[0]
