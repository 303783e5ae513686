"""Store, seal, copy, hold, delete, undelete, reject, expire, repack, in any order.

A model says what a peer may see; after each step the archive must show just that, and whatever is not gone by
an expired deletion must have its copies. `make sim` runs many more and longer ones.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import select

from hsm.catalog import find, hiding, marks, rejections
from hsm.catalog.tables import Copy, DeletedPackage, Deletion, Instance, Package
from hsm.config.deletion import DeletionConfig
from hsm.errors import HsmError, NotFound, Refused
from hsm.part10 import file_head
from hsm.repack import Wanted
from hsm.terms import Exact, Field, Level
from hsm.trash import Trash
from tests.sim.world import (
    CT_IMAGE,
    EXPLICIT_LITTLE,
    LONG,
    ROAD,
    TWO_TAPES,
    Shape,
    World,
    dataset,
    header,
    study_uid,
)

STUDIES = st.integers(1, 2)
NUMBERS = st.integers(1, 4)
DAY = 86400.0


class Deleting(RuleBasedStateMachine):
    """One archive, and what is known of it."""

    template: Path

    @initialize(policy=st.sampled_from([TWO_TAPES, ROAD]))
    def open(self, policy: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hsm-sim-"))
        shutil.copyfile(self.template, self.folder / "catalog.db")
        shape = Shape(cartridges=4, capacity_bytes=400_000, mail_slots=1)
        self.world = World(
            self.folder / "home", f"sqlite:///{self.folder / 'catalog.db'}", policies=policy, shape=shape
        )
        self.trash = Trash(self.world.catalog, self.world.staging, self.world.bell, DeletionConfig())
        self.there: dict[int, set[int]] = {1: set(), 2: set()}
        """Numbers of the instances that are neither in the trash nor gone."""
        self.trashed: dict[int, set[int]] = {}
        self.rejected: dict[int, set[int]] = {1: set(), 2: set()}
        self.held: set[int] = set()
        self.notes = 0
        self.store(1, 1)
        self.store(1, 2)
        self.the_daemon_goes_its_way()

    def seen(self, study: int) -> set[int]:
        return self.there[study] - self.rejected[study]

    @rule(study=STUDIES, number=NUMBERS)
    def store(self, study: int, number: int) -> None:
        """Always the same bytes under a UID."""
        data = dataset(5_000, study * 100 + number)
        try:
            self.world.store_one(header(study, number), data)
        except Refused:
            assert number in self.rejected[study], "only what is rejected is refused"
            assert number not in self.there[study], "and not where it is kept"
        else:
            self.there[study].add(number)

    @rule()
    def the_daemon_goes_its_way(self) -> None:
        self.world.seal_all()
        self.world.run_policies()
        self.trash.round()
        self.world.later(700)

    @rule(study=STUDIES)
    def delete(self, study: int) -> None:
        try:
            self.trash.delete(study_uid(study), "a reason", "anna")
        except (Refused, NotFound):
            assert study in self.held or study in self.trashed or not self.there[study]
        else:
            assert study not in self.held
            self.trashed[study], self.there[study] = self.there[study], set()

    @rule(study=STUDIES)
    def undelete(self, study: int) -> None:
        try:
            self.trash.undelete(study_uid(study), "a reason", "anna")
        except (Refused, NotFound):
            assert study not in self.trashed, "what is in the trash can be taken back"
        else:
            self.there[study] |= self.trashed.pop(study)

    @rule(study=STUDIES)
    def hold_or_not(self, study: int) -> None:
        act = marks.lift_hold if study in self.held else marks.place_hold
        try:
            with self.world.catalog.write() as session:
                act(session, study_uid(study), "court", self.world.now(), "anna")
        except NotFound:
            return
        self.held ^= {study}

    @rule()
    def a_month_goes_by(self) -> None:
        self.world.clock.advance(31 * DAY)
        for _ in range(4):
            self.world.seal_all()
            self.trash.round()
            self.world.settle()
        for study in sorted(set(self.trashed) - self.held):
            assert self.gone(study), "nothing forbids its end"
            del self.trashed[study]

    def gone(self, study: int) -> bool:
        return all(each["study"] != study_uid(study) for each in self.trash.listing(50))

    @rule(study=STUDIES, numbers=st.sets(NUMBERS, min_size=1), code=st.sampled_from(["113001", "113037"]))
    def reject(self, study: int, numbers: set[int], code: str) -> None:
        self.notes += 1
        named = tuple(
            rejections.Reference(
                study_uid(study), header(study, n).series_uid, header(study, n).sop_instance_uid
            )
            for n in sorted(numbers)
        )
        note = rejections.Note(f"9.{self.notes}", code, named)
        self.world.ingest.require_rejectable(note)
        self.world.ingest.reject(note, "ae:EDITOR")
        self.rejected[study] |= numbers

    def known(self, study: int) -> set[int]:
        with self.world.catalog.read() as session:
            uids = session.scalars(select(Instance.uid)).all()
        return {n for n in range(1, 5) if header(study, n).sop_instance_uid in uids}

    @rule(study=STUDIES)
    def revoke(self, study: int) -> None:
        try:
            self.trash.revoke(study_uid(study), "a reason", "anna")
        except NotFound:
            assert not self.rejected[study]
        else:
            self.rejected[study] = set()

    @rule(barcode=st.sampled_from(["HSM001L8", "HSM002L8"]))
    def repack(self, barcode: str) -> None:
        try:
            self.world.repack.start(Wanted(barcode), "op")
        except HsmError:
            return
        self.world.settle()
        self.world.repack.round()
        self.world.later(700)

    @invariant()
    def peers_see_what_they_may_and_no_more(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.check()
        reach = self.world.reader.reach()
        with self.world.catalog.read() as session:
            for study in (1, 2):
                wanted = {Field.STUDY_UID: Exact(study_uid(study))}
                seen = {header(study, number).sop_instance_uid for number in self.seen(study)}
                found = list(find.find(session, Level.IMAGE, wanted, reach))
                assert {each.values[Field.SOP_INSTANCE_UID] for each in found} == seen
                counts = [
                    each.values[Field.STUDY_INSTANCES]
                    for each in find.find(session, Level.STUDY, wanted, reach)
                ]
                assert counts == ([len(seen)] if seen else [])
        for study in (1, 2):
            assert len(self.world.instances(study)) == len(self.seen(study))

    @invariant()
    def what_is_not_over_has_its_copies(self) -> None:
        if not hasattr(self, "world"):
            return
        with self.world.catalog.read() as session:
            over = set(
                session.scalars(
                    select(DeletedPackage.package_pk)
                    .join(Deletion, Deletion.pk == DeletedPackage.deletion_pk)
                    .where(Deletion.state.in_(("due", "purged")))
                )
            )
            good = set(session.scalars(select(Copy.package_pk).where(Copy.state == "verified")))
            assert set(session.scalars(select(Package.pk))) - over <= good
            shown = session.scalars(
                select(Instance.package_pk).where(Instance.package_pk.is_not(None), ~hiding.hidden())
            ).all()
            assert not set(shown) & over, "what is shown is not on its way out"

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.all_comes_back()
        finally:
            self.world.close()
            shutil.rmtree(self.folder)

    def all_comes_back(self) -> None:
        """What was not over is taken back, and is whole, byte for byte."""
        for study in (1, 2):
            if study in self.trashed:
                self.undelete(study)
            self.revoke(study)
            self.world.acknowledged = {
                header(study, number).sop_instance_uid: _digest(study, number) for number in self.there[study]
            }
            if self.there[study]:
                self.world.assert_readable(study)
        self.world.check()


def _digest(study: int, number: int) -> bytes:
    head = file_head(CT_IMAGE, header(study, number).sop_instance_uid, EXPLICIT_LITTLE)
    return hashlib.sha256(head + dataset(5_000, study * 100 + number)).digest()


@pytest.mark.campaign
@pytest.mark.timeout(7200 if LONG else 900)
def test_whatever_is_deleted_held_rejected_and_taken_back_in_whatever_order(sqlite_template: Path) -> None:
    Deleting.template = sqlite_template
    run_state_machine_as_test(
        Deleting,
        settings=settings(
            max_examples=300 if LONG else 6,
            stateful_step_count=50 if LONG else 20,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
