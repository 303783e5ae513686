"""Studies that were deleted and whose bytes were found again, in words."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy.orm import Session

from hsm.catalog import deletions, marksfacts, trashwork


def in_trash(session: Session, limit: int) -> Iterator[str]:
    """A sentence for each study that is in the trash because a volume says that it was deleted."""
    standing = deletions.trash(session, limit)
    found = marksfacts.found(session, [each.study_uid for each in standing])
    for each in standing:
        if each.study_uid not in found:
            continue
        said = found[each.study_uid].marks.deleted
        through = said.purged_at if said is not None else None
        gone = f", for good on {through:%Y-%m-%d}" if through else ""
        volumes = trashwork.lies_on(session, each.pk)
        yield (
            f"study {each.study_uid} was deleted on {each.made_at:%Y-%m-%d} by {each.made_by}{gone} "
            f"({each.reason}), and stays deleted; its bytes lie on {', '.join(volumes) or 'no volume here'}. "
            f"Until {each.due_at:%Y-%m-%d} hsm study undelete brings it back"
        )
