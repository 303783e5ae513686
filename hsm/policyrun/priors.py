"""Earlier studies of a patient who has just had another one: what a reader will want to compare with."""

from __future__ import annotations

from sqlalchemy.orm import Session

from hsm.catalog import facts, rulework
from hsm.catalog.facts import Candidate
from hsm.policyrun.select import Question
from policies import Circumstances, StudyFacts
from policies.evaluate import truth
from policies.policy import Same

LOOKED_AT_MAX = 200
"""The newest studies of a patient that are considered."""


def of(session: Session, question: Question, arrived: Candidate) -> list[Candidate]:
    """The priors to recall: the newest that qualify, less those that are at hand or were asked for since
    the study arrived."""
    wanted = question.rule.priors
    if wanted is None:
        return []
    at = Circumstances(question.now, question.fills)
    new = arrived.facts()
    found = []
    for candidate in facts.read(
        session, rulework.earlier_of_patient(session, arrived.study_pk, LOOKED_AT_MAX)
    ):
        old = candidate.facts()
        if all(_alike(same, new, old) for same in wanted.same) and truth(wanted.when.root, old, at) is True:
            found.append(candidate)
        if len(found) == wanted.at_most:
            break
    keys = [each.study_pk for each in found]
    asked = rulework.asked_since_arrival(session, keys, arrived.study_pk, question.rule.pool)
    return [
        each
        for each in found
        if each.study_pk not in asked
        and each.values.get("availability") != "ONLINE"
        and question.rule.pool not in each.held
    ]


def _alike(same: Same, new: StudyFacts, old: StudyFacts) -> bool:
    """What is not known of one of them is not alike."""
    match same:
        case Same.PATIENT:
            return True  # they were looked for by it
        case Same.MODALITY:
            return bool(_codes(new) & _codes(old))
        case Same.BODY_PART:
            return bool(_texts(new, "body_parts") & _texts(old, "body_parts"))
        case Same.DESCRIPTION:
            return _same_text(new, old, "description")
        case Same.INSTITUTION:
            return _same_text(new, old, "institution")


def _codes(facts: StudyFacts) -> set[str]:
    return {code for code in str(facts.values.get("modalities") or "").split("\\") if code}


def _texts(facts: StudyFacts, source: str) -> set[str]:
    value = facts.values.get(source) or ()
    return {text for text in value if text} if isinstance(value, (tuple, frozenset)) else set()


def _same_text(new: StudyFacts, old: StudyFacts, source: str) -> bool:
    value = new.values.get(source)
    return bool(value) and value == old.values.get(source)
