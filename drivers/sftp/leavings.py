"""What puts that failed left on the server: some of it is gone on with, the rest is removed later."""

from __future__ import annotations

import threading
from contextlib import suppress

from drivers.sftp import files
from drivers.sftp.session import Refused, Session
from drivers.sftp.upload import Draft

_DRAFTS_MAX = 16


class Leavings:
    """Remembers, for as long as the store lives, drafts that can be gone on with and paths to remove.

    :param incoming: the folder on the server where drafts lie.
    """

    def __init__(self, incoming: str) -> None:
        self._incoming = incoming + "/"
        self._lock = threading.Lock()
        self._settling = threading.Lock()
        self._drafts: dict[str, Draft] = {}
        self._owed: list[str] = []

    def __contains__(self, path: str) -> bool:
        """Whether ``path`` may lie there and must not."""
        return path in self._owed

    def draft(self, key: str, size: int, digest: bytes | None) -> Draft | None:
        """What there is of an upload of the same bytes; that of others is given up."""
        with self._lock:
            kept = self._drafts.pop(key, None)
            if kept is not None and not kept.same(size, digest):
                self._owed.append(kept.path)
                return None
            return kept

    def failed(self, draft: Draft, target: str | None, *, lost: bool) -> bool:
        """A put failed, by a ``lost`` connection or otherwise; whether its draft is kept.

        :param target: the name that it may have got.
        """
        with self._lock:
            if lost and draft.safe and target is None:
                self._drafts[draft.key] = draft
                while len(self._drafts) > _DRAFTS_MAX:
                    self._owed.append(self._drafts.pop(next(iter(self._drafts))).path)
                return True
            self._owed += [draft.path] if target is None else [draft.path, target]
            return False

    def settle(self, session: Session) -> None:
        """Remove what is to be removed: drafts first, so that a request that is still on its way to the
        server finds nothing to give a name to."""
        if not self._owed:
            return
        with self._settling:
            paid = []
            for path in sorted(self._owed, key=lambda path: not path.startswith(self._incoming)):
                with suppress(Refused):  # a read-only file system: later, and nobody else is kept waiting
                    files.remove(session, path)
                    paid.append(path)
            with self._lock:
                self._owed = [path for path in self._owed if path not in paid]
