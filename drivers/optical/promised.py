"""Labels of blank discs that are written once: such a disc gets its label with everything else.

Until then the label is a file in the spool. A disc that is no longer blank is never asked for here.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from drivers.base import VolumeLabel
from drivers.optical.index import LABEL_BYTES_MAX, DiscLabel, label_text, parse_label
from drivers.oserrors import translated
from drivers.walk import sync_folder


class Promises:
    """The labels that blank discs will get; one file a disc. Durable."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, barcode: str) -> VolumeLabel | None:
        """:raises Corrupt: the file is damaged."""
        path = self._path(barcode)
        with translated(f"read {path}"):
            try:
                with path.open("rb") as source:
                    return parse_label(source.read(LABEL_BYTES_MAX)).volume
            except FileNotFoundError:
                return None

    def make(self, label: VolumeLabel) -> None:
        """What was promised to the disc before counts no longer."""
        path = self._path(label.barcode)
        with translated(f"write {path}"):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = path.with_suffix(".new")
            with fresh.open("wb") as target:
                target.write(label_text(DiscLabel(label)))
                target.flush()
                os.fsync(target.fileno())
            os.replace(fresh, path)
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                sync_folder(folder)
            finally:
                os.close(folder)

    def keep(self, barcode: str) -> None:
        """The disc carries its label itself now."""
        with translated(f"remove {self._path(barcode)}"):
            self._path(barcode).unlink(missing_ok=True)

    def _path(self, barcode: str) -> Path:
        return self._folder / f"{quote(barcode, safe='')}.label"
