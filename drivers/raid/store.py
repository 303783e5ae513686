"""A Store on a file system of a RAID path: a block device behind Fibre Channel, mostly a multipath one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from drivers.base import Figure, Health, Notice
from drivers.errors import OperatorNeeded
from drivers.folder import FolderStore
from drivers.raid import filesystem, multipathd, sysfs
from drivers.raid.state import Snapshot, figures, look, refusal, verdict
from drivers.raid.watch import POLL_SECONDS, Watch


class RaidStore(FolderStore):
    """A folder on the mounted file system with the UUID ``fs_uuid``, and the paths to its device.

    Wherever the sentinel is looked at, the kernel is asked for the UUID of the file system that the folder
    lies on; with any other one (nothing is mounted, something else is) nothing is written, deleted or called
    absent. ``sys`` and ``states`` are where paths are looked up: see :func:`drivers.raid.state.look`.

    :raises OperatorNeeded: the folder is not there, or not on that file system.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        fs_uuid: str,
        reserve_bytes: int = 0,
        expect_uuid: str | None = None,
        clean: bool = True,
        *,
        sys: Path = sysfs.SYS,
        states: Callable[[str], Mapping[str, str]] = multipathd.path_states,
        poll: float = POLL_SECONDS,
    ) -> None:
        self._fs_uuid, self._path = fs_uuid, Path(os.path.abspath(root))
        self._sys, self._states, self._poll = sys, states, poll
        self._watch: Watch | None = None
        super().__init__(root, reserve_bytes, expect_uuid, clean, guard=self._require, preallocate=True)

    def health(self) -> Health:
        """Whether it takes a file now; when it does, the message still names the paths that are down."""
        seen = self._look()
        found = verdict(seen, self._fs_uuid, self._path)
        if not found.ok:
            return found
        written = super().health()
        return found if written.ok else written

    def watch(self, tell: Callable[[Notice], None]) -> None:
        """See :meth:`drivers.base.Watched.watch`."""
        if self._watch is None:
            self._watch = Watch(self._look, self._fs_uuid, tell, self._poll)
            self._watch.start()

    def figures(self) -> tuple[Figure, ...]:
        """See :meth:`drivers.base.Watched.figures`."""
        return figures(self._look() if self._watch is None else self._watch.seen)

    def close(self) -> None:
        """See :meth:`drivers.base.Watched.close`."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _look(self) -> Snapshot:
        return look(self._path, self._sys, self._states)

    def _require(self, folder: int) -> None:
        found = filesystem.uuid_of(folder)
        if found is None or not filesystem.same(found, self._fs_uuid):
            raise OperatorNeeded(refusal(self._look(), self._fs_uuid, self._path) or f"{self._path} has gone")
