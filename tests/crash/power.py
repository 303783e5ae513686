"""What is left after a power cut: only what was flushed, or that and some of the rest.

The hook in the daemon (hook/crash_hook.py) records each flush that returned: a file's inode and its size
then, a folder's inode and its entries then. From that record and from what was there before, the folders
of the pools are built anew, and the catalog's files are replaced by the copies of their flushed pages.

- ``strict``: nothing survives that was not flushed. Names given since a folder's last flush are gone,
  names removed since are back, files end where they ended at their last flush.
- ``torn``: of each such name, each rest of a file and each sector of the catalog, chance decides
  whether it made it; a file may also have its length without its bytes.

Files of the pools are only ever appended to, so that a size says what of a file is durable. PostgreSQL
does its own flushing and is not played here.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512
POOLS = ("online", "nearline")
Entries = dict[str, tuple[int, bool]]
"""Name -> inode, and whether it is a folder."""


@dataclass
class Durable:
    """What the disk holds."""

    folders: dict[int, Entries] = field(default_factory=dict)
    files: dict[int, int] = field(default_factory=dict)
    """Inode -> bytes that are flushed."""


class Power:
    """The power of one archive: :meth:`on` before each start, :meth:`cut` after each kill."""

    def __init__(self, home: Path, catalog: Path) -> None:
        self._home, self._catalog = home, catalog
        self.record = home.parent / "record"
        self._durable = Durable()

    def on(self) -> None:
        """All that is there now is durable."""
        shutil.rmtree(self.record, ignore_errors=True)
        self.record.mkdir()
        self._durable = Durable()
        for pool in POOLS:
            for path, _, _ in os.walk(self._home / pool):
                with os.scandir(path) as found:
                    entries = {e.name: (e.inode(), e.is_dir(follow_symlinks=False)) for e in found}
                self._durable.folders[os.stat(path).st_ino] = entries
                for name, (number, is_folder) in entries.items():
                    if not is_folder:
                        self._durable.files[number] = os.stat(f"{path}/{name}").st_size
        for path in self._catalog_files():
            if path.exists():
                shutil.copyfile(path, self.record / path.name)

    def cut(self, dice: random.Random | None) -> None:
        """Take back what was not flushed; all of it, or what the dice say."""
        self._replay()
        for pool in POOLS:
            if (self._home / pool).exists():
                self._rebuild(self._home / pool, dice)
        for path in self._catalog_files():
            _restore(path, self.record / path.name, dice)
        Path(f"{self._catalog}-shm").unlink(missing_ok=True)

    def _catalog_files(self) -> list[Path]:
        return [self._catalog, Path(f"{self._catalog}-wal")]

    def _replay(self) -> None:
        """Take the hook's record in. Of two flushes of a folder, the one begun later counts."""
        newest: dict[int, tuple[int, Entries]] = {}
        for log in self.record.glob("*.log"):
            for line in log.read_bytes().splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    continue  # killed in mid-writing
                event = json.loads(line)
                if "file" in event:
                    number = event["file"]
                    self._durable.files[number] = max(event["size"], self._durable.files.get(number, 0))
                elif event["at"] > newest.get(event["folder"], (-1, {}))[0]:
                    newest[event["folder"]] = (
                        event["at"],
                        {n: tuple(e) for n, e in event["entries"].items()},
                    )
        self._durable.folders |= {number: entries for number, (_, entries) in newest.items()}

    def _rebuild(self, root: Path, dice: random.Random | None) -> None:
        where: dict[int, Path] = {int(path.name): path for path in (self.record / "graveyard").glob("*")}
        now: dict[int, Entries] = {}
        for folder, _, _ in os.walk(root):
            with os.scandir(folder) as found:
                entries = {e.name: (e.inode(), e.is_dir(follow_symlinks=False)) for e in found}
            now[os.stat(folder).st_ino] = entries
            where |= {number: Path(folder, name) for name, (number, is_dir) in entries.items() if not is_dir}
        new = root.with_name(root.name + ".after")
        done: set[int] = set()

        def build(number: int, folder: Path) -> None:
            folder.mkdir(mode=0o750)
            for name, (child, is_folder) in _entries(
                self._durable.folders.get(number, {}), now.get(number, {}), dice
            ).items():
                if is_folder:
                    build(child, folder / name)
                    continue
                os.link(where[child], folder / name)
                if child not in done:
                    done.add(child)
                    _shorten(folder / name, self._durable.files.get(child, 0), dice)

        build(os.stat(root).st_ino, new)
        shutil.rmtree(root)
        new.rename(root)


def _entries(durable: Entries, now: Entries, dice: random.Random | None) -> Entries:
    if dice is None:
        return durable
    kept = {}
    for name in sorted({*durable, *now}):
        entry = dice.choice((durable.get(name), now.get(name)))
        if entry is not None:
            kept[name] = entry
    return kept


def _shorten(path: Path, flushed: int, dice: random.Random | None) -> None:
    size = path.stat().st_size
    if size <= flushed:
        return
    if dice is None:
        os.truncate(path, flushed)
        return
    end = dice.choice((flushed, size, dice.randint(flushed, size)))
    empty = dice.random() < 0.5  # the length reached the disk and the bytes did not
    os.truncate(path, flushed if empty else end)
    os.truncate(path, end)


def _restore(path: Path, flushed: Path, dice: random.Random | None) -> None:
    if not flushed.exists():
        path.unlink(missing_ok=True)
        return
    old = flushed.read_bytes()
    if dice is None or not path.exists():
        path.write_bytes(old)
        return
    new = path.read_bytes()
    pieces = []
    for start in range(0, max(len(old), len(new)), SECTOR):
        before, after = old[start : start + SECTOR], new[start : start + SECTOR]
        pieces.append(after if after and dice.random() < 0.5 else before)
    # A sector beyond the end of what was flushed is there only if all before it have their place.
    path.write_bytes(b"".join(piece.ljust(SECTOR, b"\0") for piece in pieces))
