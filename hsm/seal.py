"""A study that has been quiet for a while becomes a package: immutable, digested, read back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from hsm import layout
from hsm.catalog import placement, requesting, restored, sealing
from hsm.catalog.engine import Catalog
from hsm.content import open_instance, put_manifest
from hsm.errors import Retryable
from hsm.log import get_logger
from hsm.model import Priority
from hsm.package import Member, package_digest, plan_package
from hsm.pools import DiskPool
from hsm.states import RequestKind

log = get_logger(__name__)

ACTOR = "seal"
STUDIES_PER_ROUND_MAX = 200
FAILED_PAUSE = timedelta(hours=1)
"""How long a study that could not be sealed is left alone; the failed request says why."""

FRAME_BYTES = 64 << 10
"""Of a package beside its members: the study's part of the manifest, the end of the tar."""
MEMBER_BYTES = 2048
"""Of a member beside its bytes: its header and padding, its line in the manifest."""


class Seal:
    """Finds quiet studies and seals them into the pool they were received in."""

    def __init__(
        self,
        catalog: Catalog,
        pool: DiskPool,
        quiet_seconds: float,
        package_bytes_max: int | None = None,
    ) -> None:
        """
        :param package_bytes_max: a study that makes more is sealed into several packages, none larger than
            this unless one instance alone is (decision 11); None: one package, whatever its size.
        """
        self._catalog = catalog
        self._pool = pool
        self.quiet_seconds = quiet_seconds
        self.package_bytes_max = package_bytes_max

    def enqueue_quiet(self) -> int:
        """Queue a request for each study that has been quiet for long enough; how many are new."""
        now = self._catalog.clock.now()
        with self._catalog.read() as session:
            if restored.is_owed(session):
                return 0
            quiet = sealing.quiet_studies(
                session,
                now - timedelta(seconds=self.quiet_seconds),
                now - FAILED_PAUSE,
                STUDIES_PER_ROUND_MAX,
            )
        new = 0
        for study_pk, uid in quiet:
            with self._catalog.write() as session:
                _, made = requesting.enqueue(
                    session,
                    now,
                    ACTOR,
                    RequestKind.SEAL,
                    f"seal:{uid}",
                    priority=Priority.MIGRATION,
                    reason=f"quiet for {self.quiet_seconds:g} s",
                    study_pk=study_pk,
                    pool=self._pool.name,
                )
                new += made
        return new

    def seal(self, study_pk: int) -> str | None:
        """Seal what the study has unsealed, in as many packages as it takes; the last one's key, or None
        when there was nothing.

        :raises Corrupt: an instance file is not what was received; packages sealed before it stay.
        """
        key = None
        while (sealed := self._seal_one(study_pk)) is not None:
            key = sealed
            if self.package_bytes_max is None:
                break
        return key

    def _seal_one(self, study_pk: int) -> str | None:
        """One package, with the instances that fit, in viewing order.

        Every file is read from the medium and digested before the package is catalogued, so the
        online copy is verified from the start.

        :raises Corrupt: an instance file is not what was received; nothing is sealed.
        :raises Retryable: the catalog was restored, and does not know what others were sealed.
        """
        now = self._catalog.clock.now()
        with self._catalog.read() as session:
            if restored.is_owed(session):
                raise Retryable(f"nothing is sealed: {restored.OWED}")
            members = fitting(sealing.unsealed_members(session, study_pk), self.package_bytes_max)
            if not members:
                return None
            number = sealing.next_package_number(session, study_pk)
            study_uid = placement.study_uid(session, study_pk)
            key = layout.package_key(study_uid, number)
            identity = sealing.identity(session, study_pk, key, number, now)
        plan = plan_package(identity, [member for _, member in members])
        digest = package_digest(
            plan, lambda member: open_instance(self._pool, study_uid, member, from_medium=True)
        )
        locator = put_manifest(self._pool, plan)
        new = sealing.NewPackage(
            study_pk,
            number,
            key,
            plan.size,
            digest,
            tuple((pk, offset) for (pk, _), offset in zip(members, plan.offsets, strict=True)),
        )
        with self._catalog.write() as session:
            sealing.insert_package(session, new, self._pool.volume_pk, locator, now, ACTOR)
        log.info("sealed %s: %d instances, %d bytes", key, len(members), plan.size)
        return key


def fitting(members: Sequence[tuple[int, Member]], most: int | None) -> Sequence[tuple[int, Member]]:
    """The first members that make a package of ``most`` bytes at most, the manifest's share included; at
    least one, if there is one."""
    if most is None:
        return members
    size = FRAME_BYTES
    for count, (_, member) in enumerate(members):
        size += member.size + MEMBER_BYTES
        if size > most:
            return members[: max(count, 1)]
    return members
