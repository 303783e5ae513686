"""The end of an archive: its catalog comes from a backup, then from its media; peers see no difference."""

from __future__ import annotations

from pathlib import Path

from hsm.rebuild import Rebuild
from tests.chaos.chaos_effects import Effects
from tests.chaos.chaos_ledger import Ledger
from tests.chaos.chaos_world import ChaosWorld, read_synthetic
from tests.sim.aftermath import backup_of, reborn, restored_from
from tests.sim.world import World

ANCHOR_HOURS = 7
"""After so long what people have said is on the disks, too."""


def burn(world: ChaosWorld, ledger: Ledger, effects: Effects, template: Path) -> None:
    """The archive, at rest, is gone for good after this.

    :raises AssertionError: something is seen that was not, or is not seen any more.
    """
    world.clock.advance(ANCHOR_HOURS * 3600)
    world.anchoring.round()
    folder = Path(world.url.removeprefix("sqlite:///")).parent
    studies = sorted({*ledger.studies(), *ledger.trash.studies()})

    def compare(found: World, how: str) -> None:
        for study in studies:
            seen = {each.sop_instance_uid for each in found.instances(study)}
            wanted = ledger.shown(study)
            assert seen == wanted, f"5: {how} shows {sorted(seen ^ wanted)[:3]} of study {study}, or lacks it"
        effects.checks[f"5 an archive {how} shows what it showed, and hides what it hid"] += len(studies)

    restored = restored_from(world, template, folder / "restored.db", backup_of(world))
    compare(restored, "from a backup")
    anew = reborn(restored, template, folder / "rebuilt.db")
    Rebuild(anew.catalog, anew.pools, anew.custody, read_synthetic).run(())
    compare(anew, "rebuilt from its media")
    anew.close()
