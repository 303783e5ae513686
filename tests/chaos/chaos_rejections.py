"""What rejection notes have taken out of use (IHE RAD-66), as the world outside knows it.

What a note names is hidden, also when it comes later, until a person takes that note back. Who has the right
to see what was rejected for quality reasons sees that, and nothing else of it.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from hsm.catalog.hiding import QUALITY, SAFETY, WORKLIST
from hsm.catalog.rejections import Note, Reference
from tests.sim.world import study_uid

CODES = (QUALITY, SAFETY, WORKLIST)
"""The fourth title lets a study go into the trash (tests/sim/test_deletion_machine.py)."""
_STANDING = (
    "SELECT note FROM deletion WHERE kind = 'rejection' AND state = 'standing'"
    " UNION SELECT note FROM awaited_rejection"
)
_SHOWN = (
    "SELECT i.uid FROM instance i JOIN series e ON e.pk = i.series_pk JOIN study s ON s.pk = e.study_pk"
    " WHERE s.uid = :study AND NOT EXISTS (SELECT 1 FROM hidden_instance h JOIN deletion d ON d.pk ="
    " h.deletion_pk WHERE h.instance_pk = i.pk AND d.kind = 'rejection' AND d.state = 'standing')"
)


class Rejections:
    """Of one archive."""

    def __init__(self) -> None:
        self.notes: dict[str, Note] = {}
        """Everything that was ever sent, by UID."""
        self.standing: set[str] = set()
        """UIDs of those in force."""
        self.once: set[str] = set()
        """SOP Instance UIDs that a note has named at some time."""

    def note(self, code: str, study: int, places: list[tuple[str, str]]) -> Note:
        """A new one.

        :param places: series and SOP Instance UID of what it names.
        """
        uid = f"{study_uid(study)}.66.{len(self.notes) + 1}"
        made = Note(uid, code, tuple(Reference(study_uid(study), *place) for place in places))
        self.notes[uid] = made
        return made

    def learn(self, connection: Connection) -> None:
        """After somebody sent a note or took one back, whatever became of the answer."""
        self.standing = set(connection.scalars(text(_STANDING)))
        named = (self.notes[uid].references for uid in self.standing)
        self.once |= {each.sop_instance_uid for some in named for each in some}

    def hidden(self, study: int, *, sees_rejected: bool = False) -> set[str]:
        """SOP Instance UIDs of a study that are not to be seen."""
        return {
            each.sop_instance_uid
            for uid in self.standing
            if not (sees_rejected and self.notes[uid].code == QUALITY)
            for each in self.notes[uid].references
            if each.study_uid == study_uid(study)
        }

    def check(self, connection: Connection) -> int:
        """:returns: how many notes were looked at.
        :raises AssertionError: one has lost its force, or has it again; or what one names is shown.
        """
        found = set(connection.scalars(text(_STANDING)))
        assert found == self.standing, f"3: notes in force are {found}, and should be {self.standing}"
        for uid in sorted(self.standing):
            note = self.notes[uid]
            shown = set(connection.scalars(text(_SHOWN), {"study": note.references[0].study_uid}))
            named = {each.sop_instance_uid for each in note.references}
            assert not shown & named, f"3: rejected by {uid}, and shown: {sorted(shown & named)[:3]}"
        return len(self.standing)
