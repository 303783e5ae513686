"""The states of everything that has states, each as one transition table.

The database repeats the names as CHECK constraints; :meth:`Machine.check` is called in the
transaction that changes a state. A state's meaning stands beside its name.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S", bound=enum.StrEnum)


class VolumeState(enum.StrEnum):
    SCRATCH = "scratch"  # blank as far as is known, may be given to a pool
    FOREIGN = "foreign"  # carries somebody else's data; left alone until a person insists
    LABELLED = "labelled"  # carries our label, nothing else yet
    ACTIVE = "active"  # holds packages, takes more
    FULL = "full"  # holds packages, takes no more
    SUSPECT = "suspect"  # an error was seen; read with care, never written
    RECYCLED = "recycled"  # holds nothing that counts; its old label is written over when a pool needs it
    RETIRED = "retired"  # holds nothing that counts
    LOST = "lost"  # cannot be found or read; its copies do not count


class CopyState(enum.StrEnum):
    WRITING = "writing"  # bytes may be anywhere between nothing and all
    WRITTEN = "written"  # flushed, not yet read back
    VERIFIED = "verified"  # read back from the medium, every digest matched
    SUSPECT = "suspect"  # a read failed or a digest did not match
    RELEASING = "releasing"  # the guard agreed; the bytes are being deleted
    RELEASED = "released"  # the bytes are gone
    LOST = "lost"  # the volume is lost


class RequestState(enum.StrEnum):
    QUEUED = "queued"  # may be taken
    ACTIVE = "active"  # a worker has it
    WAITING = "waiting"  # a person must act first (a mount request is open)
    DONE = "done"
    FAILED = "failed"  # gave up; the error says why; `hsm queue retry` queues it again
    CANCELLED = "cancelled"


class RequestKind(enum.StrEnum):
    SEAL = "seal"
    COPY = "copy"
    VERIFY = "verify"
    RECALL = "recall"
    RELEASE = "release"
    DELIVER = "deliver"
    EXPORT = "export"  # a volume goes to the shelf
    COMMIT = "commit"  # a peer is told which instances are kept
    NOTIFY = "notify"  # a peer is told how available a study has become


class MountState(enum.StrEnum):
    OPEN = "open"  # nobody has answered
    DONE = "done"  # the volume is in the library
    REFUSED = "refused"  # the operator cannot or will not load it
    OBSOLETE = "obsolete"  # nobody waits for it any more


class Outcome(enum.StrEnum):
    """How a mount request was answered."""

    DONE = "done"
    REFUSED = "refused"  # the operator will not load it, and says why
    CANNOT_FIND = "cannot find"
    DAMAGED = "damaged"
    WRONG_SITE = "wrong site"
    SUBSTITUTED = "substituted"  # the operator brings another copy
    UNANSWERED = "unanswered"  # nobody answered in time, and there is another copy
    NOT_NEEDED = "not needed"  # nobody waits for it any more


class NoticeState(enum.StrEnum):
    PENDING = "pending"  # due at its time, or being sent
    SENT = "sent"  # delivered; sent again at its time where it repeats
    FAILED = "failed"  # given up; hsm status says so until the prompt is answered


class MovementKind(enum.StrEnum):
    EXPORT = "export"
    RETURN = "return"


class MovementState(enum.StrEnum):
    PLANNED = "planned"  # it stands where it stood
    LEFT = "left"  # somebody has taken it away
    ARRIVED = "arrived"  # somebody has seen it there
    UNDONE = "undone"  # it is not to move after all, or came back


class RunState(enum.StrEnum):
    RUNNING = "running"  # somebody moves it on, or it waits for its next window
    SUSPENDED = "suspended"  # too many errors; a person looks first
    FINISHED = "finished"  # it looked at everything, or reached a limit
    ABANDONED = "abandoned"  # its policy is in force no more, or a person gave it up


class DeletionKind(enum.StrEnum):
    TRASH = "trash"  # a whole study; its copies go when its day has come
    REJECTION = "rejection"  # instances that a rejection note names; their copies stay


class DeletionState(enum.StrEnum):
    STANDING = "standing"  # its instances are hidden; every copy stays
    DUE = "due"  # its day has come: its copies are being released
    UNDONE = "undone"  # taken back: its instances are shown again
    PURGED = "purged"  # no copy of its packages counts any more


class ApprovalState(enum.StrEnum):
    WAITING = "waiting"  # for a second person, until it expires
    REFUSED = "refused"  # by a second person, or taken back by the first
    APPROVED = "approved"  # by a second person; being executed, or a crash came in between
    DONE = "done"  # executed
    FAILED = "failed"  # approved, and the act itself was refused or failed


@dataclass(frozen=True)
class Machine(Generic[S]):
    """A transition table: for each state the states that may follow it."""

    noun: str
    table: Mapping[S, frozenset[S]]

    def check(self, old: S, new: S) -> None:
        """:raises ValueError: ``new`` may not follow ``old``."""
        if new not in self.table[old]:
            raise ValueError(f"{self.noun}: {old.value} -> {new.value} is not a transition")

    def names(self) -> tuple[str, ...]:
        return tuple(state.value for state in self.table)


_V, _C, _R, _M = VolumeState, CopyState, RequestState, MountState

VOLUME = Machine(
    "volume",
    {
        _V.SCRATCH: frozenset({_V.LABELLED, _V.FOREIGN, _V.ACTIVE, _V.FULL, _V.SUSPECT, _V.RETIRED, _V.LOST}),
        _V.FOREIGN: frozenset({_V.SCRATCH, _V.LABELLED, _V.ACTIVE, _V.FULL, _V.RETIRED, _V.LOST}),
        _V.LABELLED: frozenset({_V.ACTIVE, _V.SUSPECT, _V.RECYCLED, _V.RETIRED, _V.LOST}),
        _V.ACTIVE: frozenset({_V.FULL, _V.SUSPECT, _V.RECYCLED, _V.LOST, _V.RETIRED}),
        _V.FULL: frozenset({_V.ACTIVE, _V.SUSPECT, _V.RECYCLED, _V.LOST, _V.RETIRED}),
        _V.SUSPECT: frozenset({_V.ACTIVE, _V.FULL, _V.FOREIGN, _V.RECYCLED, _V.LOST, _V.RETIRED}),
        _V.RECYCLED: frozenset({_V.LABELLED, _V.FOREIGN, _V.SUSPECT, _V.RETIRED, _V.LOST}),
        _V.RETIRED: frozenset(),
        _V.LOST: frozenset({_V.SUSPECT}),
    },
)

COPY = Machine(
    "copy",
    {
        _C.WRITING: frozenset({_C.WRITTEN, _C.RELEASED}),
        _C.WRITTEN: frozenset({_C.VERIFIED, _C.SUSPECT, _C.LOST, _C.RELEASED}),
        _C.VERIFIED: frozenset({_C.VERIFIED, _C.SUSPECT, _C.RELEASING, _C.LOST}),
        _C.SUSPECT: frozenset({_C.VERIFIED, _C.RELEASING, _C.LOST}),
        _C.RELEASING: frozenset({_C.RELEASED}),
        _C.RELEASED: frozenset({_C.WRITING}),
        _C.LOST: frozenset({_C.SUSPECT}),
    },
)

REQUEST = Machine(
    "request",
    {
        _R.QUEUED: frozenset({_R.ACTIVE, _R.WAITING, _R.CANCELLED, _R.FAILED, _R.DONE}),
        _R.ACTIVE: frozenset({_R.DONE, _R.QUEUED, _R.WAITING, _R.FAILED, _R.CANCELLED}),
        _R.WAITING: frozenset({_R.QUEUED, _R.CANCELLED, _R.FAILED}),
        _R.DONE: frozenset(),
        _R.FAILED: frozenset({_R.QUEUED, _R.CANCELLED}),
        _R.CANCELLED: frozenset({_R.QUEUED}),
    },
)

MOUNT = Machine(
    "mount request",
    {
        _M.OPEN: frozenset({_M.DONE, _M.REFUSED, _M.OBSOLETE}),
        _M.DONE: frozenset(),
        _M.REFUSED: frozenset({_M.OPEN}),
        _M.OBSOLETE: frozenset(),
    },
)

_T = MovementState

MOVEMENT = Machine(
    "movement",
    {
        _T.PLANNED: frozenset({_T.LEFT, _T.ARRIVED, _T.UNDONE}),
        _T.LEFT: frozenset({_T.ARRIVED, _T.PLANNED, _T.UNDONE}),
        _T.ARRIVED: frozenset({_T.LEFT}),
        _T.UNDONE: frozenset({_T.PLANNED}),
    },
)

NOTICE = Machine(
    "notice",
    {
        NoticeState.PENDING: frozenset({NoticeState.PENDING, NoticeState.SENT, NoticeState.FAILED}),
        NoticeState.SENT: frozenset({NoticeState.SENT, NoticeState.PENDING, NoticeState.FAILED}),
        NoticeState.FAILED: frozenset({NoticeState.PENDING}),
    },
)

RUN = Machine(
    "run",
    {
        RunState.RUNNING: frozenset({RunState.SUSPENDED, RunState.FINISHED, RunState.ABANDONED}),
        RunState.SUSPENDED: frozenset({RunState.RUNNING, RunState.ABANDONED}),
        RunState.FINISHED: frozenset(),
        RunState.ABANDONED: frozenset(),
    },
)

_D = DeletionState

DELETION = Machine(
    "deletion",
    {
        _D.STANDING: frozenset({_D.DUE, _D.UNDONE}),
        _D.DUE: frozenset({_D.DUE, _D.UNDONE, _D.PURGED}),
        _D.UNDONE: frozenset(),
        _D.PURGED: frozenset(),
    },
)

_A = ApprovalState

APPROVAL = Machine(
    "approval",
    {
        _A.WAITING: frozenset({_A.REFUSED, _A.APPROVED}),
        _A.REFUSED: frozenset(),
        _A.APPROVED: frozenset({_A.DONE, _A.FAILED}),
        _A.DONE: frozenset(),
        _A.FAILED: frozenset(),
    },
)

LIVE_REQUESTS = (RequestState.QUEUED, RequestState.ACTIVE, RequestState.WAITING)
"""States in which a request still stands for work; at most one live request has a given key."""

BLANK_VOLUMES = (VolumeState.SCRATCH, VolumeState.RECYCLED)
"""States of volumes that may be given to a pool."""

LIVE_DELETIONS = (DeletionState.STANDING, DeletionState.DUE)
"""States of deletions that may still be undone, or come to their end."""

READABLE_COPIES = (CopyState.VERIFIED, CopyState.WRITTEN)
"""States of copies that may be read from; `suspect` ones only when nothing else is left."""
