"""A library: drives that do sessions, as the archive's planner and sessions do them.

Reads of a volume go together in the order of the shortest next locate; then what is to be written there;
one index; then everything written is read back, and only then it counts. Which volume comes first is
decided by urgency, with a head start for one that lies in an idle drive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from policies.whatif.gates import Gate
from policies.whatif.moments import NEVER, Micros, Timeline, seconds
from policies.whatif.site import Library
from policies.whatif.stock import Stock, Study, Volume
from policies.whatif.tally import Tally
from policies.whatif.tape import locate_order
from policies.whatif.walker import Walker
from policies.whatif.work import Read, Write

HEAD_START: Micros = seconds(300)
SESSION_WORK_MAX = 500
RESERVE = 0.05
"""Of a volume, never written."""


@dataclass(slots=True, eq=False)
class Drive:
    number: int
    holds: Volume | None = None
    position: int = 0
    busy: bool = False


class Robot:
    """One library at work."""

    def __init__(
        self,
        library: Library,
        stock: Stock,
        timeline: Timeline,
        tally: Tally,
        walker: Walker,
        gates: dict[str, Gate],
        source_rate: Callable[[Study], float | None],
    ) -> None:
        """:param source_rate: bytes a second at which a study can be read from disk; None: it is on none."""
        self.library = library
        self._stock = stock
        self._timeline = timeline
        self._tally = tally
        self._walker = walker
        self._gates = gates
        self._source_rate = source_rate
        self.drives = [Drive(number) for number in range(library.drives)]
        self.volumes: list[Volume] = []
        self.blanks = library.slots if library.cartridges is None else min(library.slots, library.cartridges)
        self._reads: dict[int, list[Read]] = {}
        self._volumes_read: dict[int, Volume] = {}
        self._writes: dict[tuple[str, str], deque[Write]] = {}
        self._writing: set[tuple[int, int]] = set()
        """Study and volume of the writes under way."""
        self._armed: Micros = NEVER

    # what is asked for

    def read(self, read: Read) -> None:
        self._reads.setdefault(read.volume.number, []).append(read)
        self._volumes_read[read.volume.number] = read.volume
        self.dispatch()

    def write(self, write: Write) -> None:
        self._writes.setdefault((write.pool, write.policy.name), deque()).append(write)
        self.dispatch()

    @property
    def waiting_bytes(self) -> int:
        """Of writes that have not begun."""
        return sum(write.study.size for queue in self._writes.values() for write in queue)

    # volumes

    @property
    def has_blanks(self) -> bool:
        return self.blanks > 0

    @property
    def slots_taken(self) -> int:
        return self.blanks + sum(volume.in_library for volume in self.volumes)

    @property
    def room_on_volume(self) -> int:
        return int(self.library.drive.volume_bytes * (1 - RESERVE))

    def begin_volume(self, pool: str) -> Volume:
        """A blank becomes a volume of the pool."""
        self.blanks -= 1
        return self.add_volume(pool)

    def add_volume(self, pool: str) -> Volume:
        number = sum(len(room.volumes) for room in self._stock.rooms.values()) + 1
        volume = Volume(number, self.library.name, pool)
        self.volumes.append(volume)
        self._stock.rooms[pool].volumes.append(volume)
        return volume

    def insert(self, volume: Volume) -> int:
        """The operator puts a volume in, in exchange for another where there is no free slot."""
        if volume.in_library:
            return 0
        if self.slots_taken >= self.library.slots and not self._make_room():
            return 0
        volume.in_library = True
        volume.used_at = self._timeline.now
        self.dispatch()
        return 1

    def take_out(self, volume: Volume) -> int:
        """The operator takes a volume out; one that lies in a drive stays until the next trip."""
        if not volume.in_library or self._is_busy(volume):
            return 0
        self._unload(volume)
        volume.in_library = volume.leaving = False
        self._tally.exported += 1
        return 1

    def insert_blanks(self, many: int) -> int:
        """The operator puts blank volumes in, and takes full ones out where there are no free slots."""
        if self.library.cartridges is not None:
            many = min(many, self.library.cartridges - len(self.volumes) - self.blanks)
        put = 0
        while put < many and (self.slots_taken < self.library.slots or self._make_room()):
            self.blanks += 1
            put += 1
        self.dispatch()
        return put

    def _make_room(self) -> bool:
        """Free a slot: by the full volume that was not used for longest, by a blank if there are several,
        by any volume that nobody needs now."""
        if self._shelve_one(full=True):
            return True
        if self.blanks > 1:
            self.blanks -= 1
            return True
        return self._shelve_one(full=False)

    def _shelve_one(self, *, full: bool) -> bool:
        choice = [
            volume
            for volume in self.volumes
            if volume.in_library
            and volume.full is full
            and not self._reads.get(volume.number)
            and (volume.drive is None or not self._is_busy(volume))
        ]
        if not choice:
            return False
        volume = min(choice, key=lambda volume: (volume.used_at, volume.number))
        self._unload(volume)
        volume.in_library = volume.leaving = False
        return True

    def _unload(self, volume: Volume) -> None:
        """Take a volume out of its drive, which is idle."""
        if isinstance(volume.drive, Drive):
            volume.drive.holds, volume.drive.position, volume.drive = None, 0, None

    # the planner

    def dispatch(self) -> None:
        """Begin a session in every idle drive for which there is work."""
        while any(not drive.busy for drive in self.drives) and self._begin_one():
            pass

    def _begin_one(self) -> bool:
        now = self._timeline.now
        batches: list[tuple[Micros, bool, int, Volume | tuple[str, str]]] = []
        for number, reads in self._reads.items():
            volume = self._volumes_read[number]
            if not volume.in_library:
                self._walker.bring(self, volume)
            elif volume.drive is None or not self._is_busy(volume):
                early = HEAD_START if volume.drive is not None else 0
                batches.append((min(read.due for read in reads) - early, False, number, volume))
        opens = NEVER
        for number, (key, queue) in enumerate(self._writes.items()):
            gate = self._gates[key[1]]
            at = gate.opens(now)
            if at > now:
                opens = min(opens, at)
            elif gate.has_drive:
                batches.append((queue[0].due, True, number, key))
        if opens < self._armed:
            self._armed = opens
            self._timeline.at(opens, self._rearm)
        for *_, target in sorted(batches, key=lambda batch: batch[:3]):
            if isinstance(target, Volume):
                if (drive := self._drive_for(target)) is not None:
                    self._session(drive, target)
                    return True
            elif self._place_writes(target):
                return True
        return False

    def _rearm(self) -> None:
        self._armed = NEVER
        self.dispatch()

    def _is_busy(self, volume: Volume) -> bool:
        return isinstance(volume.drive, Drive) and volume.drive.busy

    def _drive_for(self, volume: Volume) -> Drive | None:
        if isinstance(volume.drive, Drive):
            return None if volume.drive.busy else volume.drive
        idle = [drive for drive in self.drives if not drive.busy]
        asked = self._reads
        return min(
            idle,
            key=lambda d: (d.holds is not None, d.holds is not None and d.holds.number in asked, d.number),
            default=None,
        )

    def _place_writes(self, key: tuple[str, str]) -> bool:
        """Find a volume for the first of the writes that can be placed now."""
        first = next(iter(self._writes[key]), None)
        if first is None:
            return False
        if first.study.size > self.room_on_volume:
            self._tally.problem(
                f"studies of {key[0]} are larger than one of its volumes: they are never copied there"
            )
            self._writes[key].popleft()
            self._tidy(key)
            return True
        usable = [
            volume
            for volume in self._stock.rooms[key[0]].volumes
            if volume.in_library and not volume.full and self._fits(volume, first)
        ]
        idle = [volume for volume in usable if not self._is_busy(volume)]
        for volume in sorted(idle, key=lambda v: (v.drive is None, -v.written, v.number)):
            if (drive := self._drive_for(volume)) is not None:
                self._session(drive, volume)
                return True
        if usable:
            return False  # busy now
        if not self.blanks:
            if self.library.cartridges is not None and len(self.volumes) >= self.library.cartridges:
                self._tally.problem(f"library {self.library.name} has no blank volumes left for {key[0]}")
            else:
                self._walker.blanks(self)
            return False
        drive = self._drive_for_blank()
        if drive is None:
            return False
        self._session(drive, self.begin_volume(key[0]))
        return True

    def _drive_for_blank(self) -> Drive | None:
        idle = [drive for drive in self.drives if not drive.busy]
        return min(idle, key=lambda d: (d.holds is not None, d.number), default=None)

    def _fits(self, volume: Volume, write: Write) -> bool:
        if volume.written + write.study.size > self.room_on_volume:
            volume.full = True
            return False
        return self._may_hold(volume, write.study)

    def _may_hold(self, volume: Volume, study: Study) -> bool:
        """A second copy belongs on another volume."""
        return (study.number, volume.number) not in self._writing and not study.on(volume)

    # a session

    def _session(self, drive: Drive, volume: Volume) -> None:
        now = at = self._timeline.now
        model = self.library.drive
        drive.busy = True
        if drive.holds is not volume:
            if drive.holds is not None:
                at += seconds(model.rewind_seconds(drive.position) + model.unload_seconds)
                at += seconds(self.library.robot_seconds)
                drive.holds.drive = None
            at += seconds(self.library.robot_seconds + model.load_seconds)
            drive.holds, volume.drive, drive.position = volume, drive, 0
            self._tally.day(now).mounts += 1
        reads = self._take_reads(volume)
        at = self._schedule_reads(drive, reads, at)
        writes = self._take_writes(volume, SESSION_WORK_MAX - len(reads))
        self._writing |= {(write.study.number, volume.number) for write in writes}
        for name in {write.policy.name for write in writes}:
            self._gates[name].drives_busy += 1
        if writes:
            at = self._time_writes(drive, volume, writes, at)
        volume.used_at = at
        self._timeline.at(at, self._end, drive, volume, writes)

    def _take_reads(self, volume: Volume) -> list[Read]:
        waiting = sorted(self._reads.pop(volume.number, ()), key=lambda read: (read.due, read.study.number))
        taken, left = waiting[:SESSION_WORK_MAX], waiting[SESSION_WORK_MAX:]
        if left:
            self._reads[volume.number] = left
        else:
            self._volumes_read.pop(volume.number, None)
        return taken

    def _schedule_reads(self, drive: Drive, reads: list[Read], at: Micros) -> Micros:
        model = self.library.drive
        for number in locate_order([read.copy.position for read in reads], drive.position, model):
            read = reads[number]
            at += seconds(model.locate_seconds(drive.position, read.copy.position))
            at += seconds(model.stream_seconds(read.study.size))
            drive.position = read.copy.position + read.study.size
            self._timeline.at(at, self._read_done, read)
        return at

    def _read_done(self, read: Read) -> None:
        self._tally.day(self._timeline.now).recalls += 1
        for then in read.then:
            then()

    def _take_writes(self, volume: Volume, most: int) -> list[Write]:
        """Writes of the volume's pool whose policies may begin work now, oldest first."""
        taken: list[Write] = []
        room, now = self.room_on_volume - volume.written, self._timeline.now
        here: set[int] = set()
        for key in [key for key in self._writes if key[0] == volume.pool]:
            gate = self._gates[key[1]]
            if gate.opens(now) > now or not gate.has_drive:
                continue
            left: deque[Write] = deque()
            for write in self._writes[key]:
                fits = write.study.size <= room and write.study.number not in here
                if (
                    len(taken) < most
                    and fits
                    and self._may_hold(volume, write.study)
                    and gate.opens(now) <= now
                ):
                    taken.append(write)
                    here.add(write.study.number)
                    room -= write.study.size
                    gate.pay(write.study.size, now)
                else:
                    left.append(write)
            self._writes[key] = left
            self._tidy(key)
        return taken

    def _tidy(self, key: tuple[str, str]) -> None:
        if not self._writes[key]:
            del self._writes[key]

    def _time_writes(self, drive: Drive, volume: Volume, writes: list[Write], at: Micros) -> Micros:
        model = self.library.drive
        begin = volume.written
        at += seconds(model.locate_seconds(drive.position, begin))
        size = sum(write.study.size for write in writes)
        for write in writes:
            rate = min(model.bytes_per_second, self._source_rate(write.study) or model.bytes_per_second)
            at += seconds(write.study.size / rate)
        at += seconds(model.flush_seconds + model.locate_seconds(begin + size, begin))
        at += seconds(model.stream_seconds(size))  # read back
        drive.position = begin + size
        return at

    def _end(self, drive: Drive, volume: Volume, writes: list[Write]) -> None:
        now = self._timeline.now
        drive.busy = False
        for name in {write.policy.name for write in writes}:
            self._gates[name].drives_busy -= 1
        for write in writes:
            position = self._stock.write(volume, write.study.size, now)
            self._writing.discard((write.study.number, volume.number))
            write.done(self._stock.add(write.study, volume.pool, volume, position, now))
        self.dispatch()
