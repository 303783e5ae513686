"""Volumes that a rule sends to the shelf: only whole ones, and only when all that is on them may go."""

from __future__ import annotations

from sqlalchemy.orm import Session

from hsm.catalog import rulework
from hsm.catalog.media import VolumeRef
from hsm.model import Place
from hsm.policyrun.select import Question, applies
from hsm.states import VolumeState


def may_go(session: Session, question: Question, volume: VolumeRef) -> bool:
    """Whether the volume is full, in its library, and holds no study that the rule does not mean."""
    if volume.state is not VolumeState.FULL or volume.place not in (Place.SLOT, Place.DRIVE):
        return False
    return not rulework.others_on(session, volume.pk, applies(question))
