"""Trouble, injected: each kind by its own method, which says whether it could be done now."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from drivers.errors import DriverError
from drivers.simulated.drive import CartridgeStore
from drivers.simulated.faults import Fault
from drivers.simulated.medium import flip_byte, swap, tear
from tests.chaos.chaos_ledger import GOOD, CopyRow, Ledger
from tests.chaos.chaos_moves import PEERS
from tests.chaos.chaos_network import LAPSED, lapse
from tests.chaos.chaos_world import SHELF_MAX, ChaosWorld, Surroundings

DISKS = {
    "nearline": "byte flipped on disk",
    "nas": "byte flipped on NAS",
    "cloud": "byte flipped on S3",
    "vault": "byte flipped in a cold class",
}


class Faults:
    """What goes wrong, and how it ends."""

    def __init__(self, around: Surroundings, ledger: Ledger, rng: random.Random) -> None:
        self.around, self.ledger, self._rng = around, ledger, rng
        self.world: ChaosWorld
        self.cuts_power = False
        """The next death is the machine's."""
        self.dies_in_start: int | None = None
        self.once = False
        """Only kinds that were not felt yet."""
        self.spoils = False
        """The next object that a drive writes gets a wrong byte, and nobody is told."""
        self.swapped: tuple[str, str] | None = None
        self.lasting: dict[str, tuple[float, Callable[[], object]]] = {}
        """Kind -> when it ends (monotonic seconds), and how."""
        self.kinds: dict[str, tuple[float, Callable[[], bool]]] = {
            "daemon killed": (4, self._kill),
            "power cut": (3, self._cut),
            "drive dead": (1, self._dead_drive),
            "write error": (2, lambda: self._library("write error", "write", "retryable", 30)),
            "read error": (2, lambda: self._library("read error", "read", "retryable", 30)),
            "index not written": (2, lambda: self._library("index not written", "flush", "retryable", 3)),
            "robot jammed": (2, lambda: self._library("robot jammed", "move", "operator needed", 3)),
            "door open": (1, self._door),
            "cartridge torn out": (2, self._tear_out),
            "cartridge torn": (1.5, self._tear),
            "stickers exchanged": (1.5, self._swap),
            "byte flipped while it is written": (3, self._spoil),
            "byte flipped on tape": (3, self._flip_tape),
            "byte flipped on disk": (2, lambda: self._flip_file("nearline")),
            "byte flipped on NAS": (2, lambda: self._flip_file("nas")),
            "byte flipped on S3": (2, lambda: self._flip_file("cloud")),
            "byte flipped in a cold class": (2, lambda: self._flip_file("vault")),
            "disk full": (1.5, self._full_disk),
            "disk flush failed": (2, self._flush_fails),
            "NAS hangs": (1.5, lambda: self._far("NAS hangs", "nas", "hangs", True)),
            "NAS full": (1, lambda: self._far("NAS full", "nas", "full", True)),
            "S3 throttles": (2, lambda: self._far("S3 throttles", "bucket", "throttles", 0.4)),
            "S3 away": (1, lambda: self._far("S3 away", "bucket", "away", True)),
            "S3 restore takes hours": (
                *(1, lambda: self._far("S3 restore takes hours", "bucket", "slow", True)),
            ),
            LAPSED: (1, lambda: lapse(self.around.bucket)),
            "database statement lost": (3, self._statement),
            "database lost before a commit": (3, lambda: self._commit(after=False)),
            "database lost after a commit": (3, lambda: self._commit(after=True)),
            "database down": (1, self._database_down),
            "clock forwards": (1, lambda: self._step(1)),
            "clock backwards": (1, lambda: self._step(-1)),
            "peer down": (1, self._peer),
        }

    def one(self) -> str:
        """Inject one kind that the dice choose; its name, empty where it could not be done now."""
        names = [name for name in self.kinds if not (self.once and self.around.effects.felt[name])]
        if not names:
            return ""
        (kind,) = self._rng.choices(names, [self.kinds[name][0] for name in names])
        if kind in self.lasting or not self.kinds[kind][1]():
            return ""
        self.around.effects.inject(kind)
        return kind

    def end_what_is_over(self) -> list[str]:
        now = self.around.clock.monotonic()
        over = [kind for kind, (until, _) in self.lasting.items() if until <= now]
        return [kind for kind in over if self._end(kind)]

    def end_all(self) -> None:
        """Everything is mended: hardware, networks, disks, the database. Bytes that flipped stay flipped."""
        for kind in list(self.lasting):
            self._end(kind)
        self.world.heal()
        self.around.database.heal()
        self.around.full.clear()
        self.around.nas.heal()
        self.around.bucket.heal()
        self.around.host.flush_fails_in = None
        self.world.fuse.blows_at = None
        self.dies_in_start = None
        self.spoils = False
        self.world.destinations_down.clear()

    def _end(self, kind: str) -> bool:
        _, end = self.lasting[kind]
        if end() is False:
            return False  # not now
        del self.lasting[kind]
        return True

    def _last(self, kind: str, most: float, end: Callable[[], object]) -> None:
        until = self.around.clock.monotonic() + self._rng.uniform(10, most / 2)
        self.lasting[kind] = (until, end)

    # The process and the machine.

    def _kill(self) -> bool:
        if self.world.fuse.blows_at is not None:
            return False
        self.cuts_power = False
        self.world.fuse.blows_at = self.world.fuse.count + self._rng.choice((1, 5, 20, 60, 150))
        if self._rng.random() < 0.25:
            self.dies_in_start = self._rng.randint(1, 25)
        return True

    def _cut(self) -> bool:
        if not self._kill():
            return False
        self.cuts_power = True
        return True

    def _step(self, sign: int) -> bool:
        seconds = sign * self._rng.choice((3, 70, 1800, 3600, 90_000))
        if abs(self.around.clock.offset_seconds + seconds) > 100_000:
            return False
        self.around.clock.step(seconds)
        self.around.effects.feel("clock forwards" if sign > 0 else "clock backwards")
        return True

    def _statement(self) -> bool:
        if self.around.database.statement_in is not None:
            return False
        self.around.database.statement_in = self._rng.choice((1, 3, 10, 40, 120))
        return True

    def _commit(self, *, after: bool) -> bool:
        if self.around.database.commit_in is not None:
            return False
        self.around.database.commit_in = self._rng.choice((1, 2, 5, 15))
        self.around.database.after_commit = after
        return True

    def _database_down(self) -> bool:
        self.around.database.down_until = self.around.clock.monotonic() + self._rng.uniform(5, 120)
        return True

    # Disks and networks.

    def _full_disk(self) -> bool:
        pool = self._rng.choice(("online", "nearline"))
        self.around.full.add(pool)
        self._last("disk full", 400, lambda: self.around.full.discard(pool))
        return True

    def _flush_fails(self) -> bool:
        self.around.host.flush_fails_in = self._rng.randint(1, 6)
        return True

    def _far(self, kind: str, which: str, what: str, value: Any) -> bool:
        trouble = getattr(self.around, which)
        setattr(trouble, what, value)
        self._last(kind, 600, lambda: setattr(trouble, what, type(value)(0)))
        return True

    def _peer(self) -> bool:
        self.world.destinations_down.add(self._rng.choice(sorted(PEERS)))
        self._last("peer down", 600, lambda: self.world.destinations_down.clear())
        return True

    # The library and its cartridges.

    def _library(self, kind: str, operation: str, error: str, nth: int) -> bool:
        fault = Fault(operation, error, nth=self._rng.randint(1, nth), message=f"chaos: {kind}")
        self.world.library.faults.add(fault)
        return True

    def _dead_drive(self) -> bool:
        drive = self._rng.choice(sorted(self.world.library._drives))
        said = "chaos: drive dead"
        self.world.library.faults.add(Fault("*", "retryable", times=None, drive=drive, message=said))
        self._last("drive dead", 900, lambda: self._forget(said))
        return True

    def _door(self) -> bool:
        said = "chaos: door open"
        self.world.library.faults.add(Fault("robot", "stale map", times=None, message=said))
        self._last("door open", 300, lambda: self._forget(said))
        return True

    def _forget(self, said: str) -> None:
        script = self.world.library.faults
        script._save(tuple(each for each in script.faults() if each.message != said))

    def _tear_out(self) -> bool:
        reachable = [each for each in self.world.outside_drives() if self._label(each)]
        if not reachable or len(self.world.library.shelf()) > SHELF_MAX:
            return False
        self.world.library.hand_remove(self._rng.choice(reachable))
        self.around.effects.feel("cartridge torn out")
        return True

    def _label(self, barcode: str) -> bool:
        return (self.world.library.medium_folder(barcode) / "label.json").exists()

    def _tear(self) -> bool:
        """A drive that lost power while it wrote the index: nothing on the cartridge is found any more."""
        some = [each for each in self.world.outside_drives() if self._label(each)]
        if not some or self.swapped is not None:
            return False
        barcode = self._rng.choice(some)
        if (keys := self.ledger.may_damage(barcode)) is None or not keys:
            return False
        tear(self.world.library.medium_folder(barcode))
        self.ledger.damage(keys, barcode, "torn")
        return True

    def _swap(self) -> bool:
        some = [each for each in self.world.outside_drives() if self._label(each)]
        if len(some) < 2 or self.swapped is not None:
            return False
        one, other = self._rng.sample(some, 2)
        self._exchange(one, other)
        self.swapped = (one, other)
        self._last("stickers exchanged", 900, self._swap_back)
        return True

    def _swap_back(self) -> bool:
        assert self.swapped is not None
        reachable = {*self.world.outside_drives(), *self.world.library.shelf()}
        if not set(self.swapped) <= reachable:
            return False
        self._exchange(*self.swapped)
        self.swapped = None
        return True

    def _exchange(self, one: str, other: str) -> None:
        library = self.world.library
        swap(library.medium_folder(one), library.medium_folder(other))

    def _victims(self, pool: str) -> list[CopyRow]:
        return [
            each
            for each in self.ledger.copies_now()
            if each.pool == pool and each.state == "verified" and each.volume_state in GOOD
        ]

    def _spoil(self) -> bool:
        self.spoils = True
        return True

    def written(self, store: CartridgeStore, key: str) -> None:
        """An object has just been put on a cartridge, and is not flushed yet."""
        if not self.spoils:
            return
        self.spoils = False
        extent = store.medium.objects[key]
        image = self.world.library.medium_folder(store.medium.barcode) / "image"
        with image.open("r+b") as file:
            file.seek(extent.offset + extent.size // 2)
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 0xFF]))
        self.around.effects.feel("byte flipped while it is written")

    def _flip_tape(self) -> bool:
        victims = self._victims("tape")
        if not victims or self.swapped is not None:
            return False
        copy = self._rng.choice(victims)
        if not self.ledger.may_damage(copy.place.volume, copy.key):
            return False
        folder = self.world.library.medium_folder(copy.place.volume)
        try:
            flip_byte(folder, copy.place.locator, self._rng.randrange(2000))
        except (StopIteration, ValueError, OSError, DriverError):
            return False
        self.ledger.damage([copy.key], copy.place.volume, "byte flipped on tape")
        return True

    def _flip_file(self, pool: str) -> bool:
        victims = self._victims(pool)
        if not victims:
            return False
        return self.flip_file(self._rng.choice(victims))

    def flip_file(self, copy: CopyRow) -> bool:
        """A byte of a package on a disk, where the archive can bear it."""
        if not self.ledger.may_damage(copy.place.volume, copy.key):
            return False
        path = self.ledger.media.pools[copy.pool] / copy.place.locator
        data = bytearray(path.read_bytes())
        data[self._rng.randrange(len(data))] ^= 0xFF
        path.write_bytes(bytes(data))
        self.ledger.damage([copy.key], copy.place.volume, DISKS[copy.pool])
        return True
