"""After the fire: what lies on the media and another catalog than the one that wrote it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import select

from hsm.catalog import backup, restored
from hsm.catalog.engine import Catalog, open_engine
from hsm.catalog.tables import Copy, Instance, Package, Patient, Series, Study, Volume
from hsm.errors import BadInput
from hsm.model import Header
from hsm.policyrun.frozen import frozen
from hsm.rebuild import MediaCheck, Rebuild, Report
from tests.sim.taps import Crash
from tests.sim.world import World, header

LoseCatalog = Callable[..., World]
Restore = Callable[[World, io.BytesIO], World]

EVERYWHERE = """\
policy: everywhere
priority: 1
copies: {tape: 1}
rules:
  - {name: to nearline, copy to: nearline}
  - {name: to tape, copy to: tape}
"""

TO_TAPE_ONLY = """\
policy: tape
priority: 1
copies: {tape: 1}
rules:
  - {name: to tape, copy to: tape}
  - {name: free online, release from: online, when: copies(tape) >= 1}
"""


def some_header(_dataset: memoryview, _syntax: str) -> Header:
    """The worlds' datasets are no DICOM: this one knows what the tests leave unsealed."""
    known = {hashlib.sha256(data).digest(): head for head, data in LOOSE}
    try:
        return known[hashlib.sha256(_dataset).digest()]
    except KeyError:
        raise BadInput("no instance that this test has stored") from None


LOOSE: list[tuple[Header, bytes]] = []


def store_loose(world: World, study: int, number: int, data: bytes) -> Header:
    head = header(study, number)
    LOOSE.append((head, data))
    world.store_one(head, data)
    return head


def reborn(world: World, template: Path, path: Path) -> World:
    """The same folders and cartridges with the catalog at ``path``, a new one where none is there."""
    world.custody.unmount_all()
    world.close()
    if not path.exists():
        shutil.copyfile(template, path)
    return World(
        world.home,
        f"sqlite:///{path}",
        world.clock,
        policies=world.policy_text,
        shape=world.shape,
        acknowledged=world.acknowledged,
    )


def restored_from(world: World, template: Path, path: Path, file: io.BytesIO) -> World:
    """The archive with the catalog that it had once."""
    shutil.copyfile(template, path)
    catalog = Catalog(open_engine(f"sqlite:///{path}"), world.clock)
    file.seek(0)
    backup.restore(catalog, file, "alice")
    catalog.close()
    return reborn(world, template, path)


def rebuild(world: World, *wanted: str, **options: Any) -> Report:
    world.custody.unmount_all()
    return Rebuild(world.catalog, world.pools, world.custody, some_header, **options).run(wanted)


def in_lives(world: World, longer: int, act: Callable[[World], Report]) -> tuple[World, Report]:
    """One daemon after the other begins it, each of which dies so many steps later than the last."""
    lives = 0
    for life in range(100):
        world.fuse.blown, world.fuse.blows_at = False, world.fuse.count + 3 + longer * life
        with contextlib.suppress(Crash):
            report = act(world)
            break
        lives += 1
        world = world.rebuild()
    world.fuse.blows_at = None
    assert lives >= 5
    return world, report


def facts(world: World) -> dict[str, Any]:
    """What a rebuild must bring back, as far as media know it, without keys and times."""
    with world.catalog.read() as session:
        copies = session.execute(
            select(Package.key, Volume.name, Volume.uuid, Volume.pool, Copy.locator, Copy.position)
            .select_from(Copy)
            .join(Package, Package.pk == Copy.package_pk)
            .join(Volume, Volume.pk == Copy.volume_pk)
            .where(Copy.state.in_(("written", "verified")))
        )
        studies = session.execute(
            select(
                *(Study.uid, Patient.key, Patient.name, Study.modalities, Study.n_series, Study.n_instances),
                *(Study.n_bytes, Study.unsealed, Study.packages, Study.description, Study.accession),
            ).join(Patient, Patient.pk == Study.patient_pk)
        )
        series = session.execute(select(Series.uid, Series.modality, Series.number, Series.n_instances))
        packages = session.execute(select(Package.key, Package.size, Package.digest, Package.n_instances))
        instances = session.execute(
            select(Instance.uid, Instance.version, Instance.size, Instance.digest, Instance.offset)
        )
        tables = {"copies": copies, "studies": studies, "series": series}
        tables |= {"packages": packages, "instances": instances}
        return {name: sorted(map(tuple, rows), key=repr) for name, rows in tables.items()}


def backup_of(world: World) -> io.BytesIO:
    file = io.BytesIO()
    with frozen(world.catalog) as session:
        backup.write(world.catalog, session, file)
    return file


def check_media(world: World, *without: str, **options: Any) -> Report:
    world.custody.unmount_all()
    check = MediaCheck(world.catalog, world.pools, world.custody, some_header, actor="alice", **options)
    check.begin(())
    check.without(without)
    return check.run(())


def owed(world: World) -> bool:
    with world.catalog.read() as session:
        return restored.is_owed(session)
