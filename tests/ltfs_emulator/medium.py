"""A cartridge as a folder: blocks in the order in which they were written, and indexes between them.

The labels lie where the file backend of the real LTFS has them (``0_0_R``), so that a test can read the
beginning of either. The rest is this emulation's own: ``1_N_R`` is block N of the data partition, ``1_N_I``
an index there, ``0_5_I`` the index partition's only one.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import uuid
from dataclasses import dataclass
from typing import Any

BLOCK_BYTES = 512 << 10
CAPACITY_BYTES = 3 << 30
FIRST_BLOCK = 6
LOST = "/_ltfs_lostandfound"
Tree = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Label:
    serial: str
    uuid: str
    name: str


def say(code: str, words: str, *, thread: bool = False) -> None:
    """A line of the log, as the real commands write it."""
    sys.stderr.write(f"{'2b5d ' if thread else ''}LTFS{code} {words}\n")
    sys.stderr.flush()


def _xml(partition: int, uuid_: str) -> bytes:
    """The LTFS label of a partition."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ltfslabel version="2.4.0">\n'
        f"<creator>emulation</creator><formattime>2026-01-01T00:00:00.0Z</formattime><volumeuuid>{uuid_}"
        f"</volumeuuid><location><partition>{'ab'[partition]}</partition></location><partitions><index>a</index>"
        f"<data>b</data></partitions><blocksize>{BLOCK_BYTES}</blocksize><compression>true</compression>\n"
        "</ltfslabel>\n"
    ).encode("ascii")


class Medium:
    """A cartridge in a drive; ``device`` is a folder or a link to one."""

    def __init__(self, device: str) -> None:
        self.folder = os.path.realpath(device)
        self.loaded = os.path.isdir(device)
        self.traps: dict[str, Any] = self._json("traps.json") or {}

    @property
    def blank(self) -> bool:
        return not os.path.exists(self._path("0_0_R"))

    def label(self) -> Label | None:
        """None when blank or not LTFS."""
        if self.blank:
            return None
        with open(self._path("0_0_R"), "rb") as file:
            record = file.read()
        said = self._json("volume.json")
        if len(record) != 80 or record[24:28] != b"LTFS" or said is None:
            return None
        return Label(said["serial"], said["uuid"], said["name"])

    def label_trouble(self) -> list[tuple[str, str]]:
        """What ltfs says of damaged labels: of the first that it cannot read, or that they do not agree."""
        said, serials = self._json("volume.json") or {}, set[bytes]()
        for partition, code in enumerate(("11170E", "11171E")):
            with open(self._path(f"{partition}_0_R"), "rb") as header:
                record = header.read()
            with open(self._path(f"{partition}_2_R"), "rb") as xml:
                damaged = xml.read() != _xml(partition, said.get("uuid", ""))
            serials.add(record[4:10])
            if damaged or record[24:28] != b"LTFS":
                return [(code, f"Failed to read label (-1012) from partition {partition}.")]
        return [] if len(serials) == 1 else [("11172E", "Cannot verify labels: comparison failed (-1013).")]

    def set_traps(self, **changed: Any) -> None:
        self.traps |= changed
        self._write("traps.json", json.dumps(self.traps).encode())

    def memory_is_known(self) -> bool:
        """Whether the coherency information in the cartridge's memory, if there is any, is what LTFS expects:
        the word LTFS, and a zero behind it."""
        for name in ("attr_0_80c", "attr_1_80c"):
            with contextlib.suppress(FileNotFoundError), open(self._path(name), "rb") as file:
                if file.read()[32:37] != b"LTFS\0":
                    return False
        return True

    def erase(self) -> None:
        for name in os.listdir(self.folder):
            if name != "traps.json":
                os.unlink(self._path(name))

    def format(self, serial: str, name: str) -> None:
        self.erase()
        given = {"serial": serial, "uuid": str(uuid.uuid4()), "name": name}
        for partition in (0, 1):
            self._write(f"{partition}_0_R", f"VOL1{serial}L{'':13}{'LTFS':13}{'':14}{'':28}4".encode("ascii"))
            self._write(f"{partition}_2_R", _xml(partition, given["uuid"]))
        self._write("volume.json", json.dumps(given).encode())
        self.write_index(5, 1, {})
        self.write_index_partition(1, {})

    def last_index(self) -> tuple[int, int, Tree]:
        """Block, generation and tree of the last index that can be read, of either partition."""
        found = [(block, self.index(f"1_{block}_I")) for block in self._numbers("_I")]
        found.append((found[-1][0], self.index("0_5_I")))
        block, said = max(
            ((block, said) for block, said in found if said), key=lambda each: each[1]["generation"]
        )
        return block, said["generation"], said["tree"]

    def index(self, name: str) -> dict[str, Any]:
        """An index; empty when it is damaged or of another volume."""
        said, label = self._json(name), self._json("volume.json")
        mine = isinstance(said, dict) and label is not None and said.get("uuid") == label["uuid"]
        return said if mine else {}

    def extra_blocks(self) -> list[int]:
        """Blocks behind the last index."""
        last = max(self._numbers("_I"))
        return [block for block in self._numbers("_R") if block > last]

    def next_block(self) -> int:
        return max([FIRST_BLOCK, *(n + 1 for n in self._numbers("_R") + self._numbers("_I"))])

    def append(self, block: int, data: bytes) -> None:
        self._write(f"1_{block}_R", data)

    def read(self, block: int) -> bytes:
        with open(self._path(f"1_{block}_R"), "rb") as file:
            return file.read()

    def indexes(self) -> list[tuple[int, int, str]]:
        """Block, generation and commit message of each index of the data partition, the last first."""
        found = [(block, self.index(f"1_{block}_I")) for block in reversed(self._numbers("_I"))]
        return [(block, said["generation"], said["comment"]) for block, said in found if said]

    def write_index(self, block: int, generation: int, tree: Tree, comment: str = "") -> None:
        self._write_index(f"1_{block}_I", generation, tree, comment)

    def write_index_partition(self, generation: int, tree: Tree, comment: str = "") -> None:
        self._write_index("0_5_I", generation, tree, comment)

    def _write_index(self, name: str, generation: int, tree: Tree, comment: str) -> None:
        uuid_ = (self._json("volume.json") or {}).get("uuid")
        said = {"uuid": uuid_, "generation": generation, "tree": tree, "comment": comment}
        self._write(name, json.dumps(said).encode())

    def roll_back(self, generation: int) -> bool:
        """An index more, which says what that generation said; False when there is none such."""
        for block, number, comment in self.indexes():
            if number == generation:
                tree = self.index(f"1_{block}_I")["tree"]
                last = self.last_index()[1]
                self.write_index(self.next_block(), last + 1, tree, comment)
                self.write_index_partition(last + 1, tree, comment)
                return True
        return False

    def used(self) -> int:
        return sum(os.path.getsize(self._path(f"1_{block}_R")) for block in self._numbers("_R"))

    def capacity(self) -> int:
        return int(self.traps.get("capacity_bytes", CAPACITY_BYTES))

    def cut_behind_last_index(self) -> None:
        for block in self.extra_blocks():
            os.unlink(self._path(f"1_{block}_R"))

    def mend(self, *, lost_and_found: bool) -> None:
        """An index behind the extra blocks, which stay where they are."""
        _, generation, tree = self.last_index()
        if lost_and_found:
            tree[LOST] = {"folder": True, "xattrs": {}, "extents": [], "size": 0, "uid": 0}
            for block in self.extra_blocks():
                size = os.path.getsize(self._path(f"1_{block}_R"))
                tree[f"{LOST}/partition1_block{block}_{size}bytes"] = {
                    "folder": False, "xattrs": {}, "extents": [[block, size]], "size": size, "uid": 0,
                }  # fmt: skip
        self.write_index(self.next_block(), generation + 1, tree)
        self.write_index_partition(generation + 1, tree)

    def _numbers(self, kind: str) -> list[int]:
        names = (name for name in os.listdir(self.folder) if name.startswith("1_") and name.endswith(kind))
        return sorted(int(name.split("_")[1]) for name in names)

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def _write(self, name: str, data: bytes) -> None:
        temporary = self._path(f".{name}.new")
        with open(temporary, "wb") as file:
            file.write(data)
        os.replace(temporary, self._path(name))

    def _json(self, name: str) -> Any:
        with contextlib.suppress(OSError, ValueError):
            with open(self._path(name), "rb") as file:
                return json.load(file)
        return None
