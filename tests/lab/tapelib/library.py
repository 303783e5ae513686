"""The whole: drives, changer, cartridges, and what is remembered between boots."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tapelib.cartridge import Cartridge, Partition
from tapelib.changer import SLOTS, Changer
from tapelib.device import Device, Identity
from tapelib.drive import Drive

Cartridges = Mapping[str, Mapping[str, Any]]
"""Slot number from 1 -> ``barcode`` and options of :class:`tapelib.cartridge.Memory`."""

DEFAULT_DRIVES = tuple(Identity("IBM", "ULT3580-TD6", "KAJ9", f"90WT00000{at}") for at in (1, 2))
DEFAULT_CHANGER = Identity("IBM", "3573-TL", "F.11", "00X4U78L0001")
DEFAULT_CARTRIDGES: Cartridges = {
    "1": {"barcode": "PAC001L6"},
    "2": {"barcode": "PAC002L6"},
    "3": {"barcode": "PAC003L6"},
    "4": {"barcode": "PAC004L6", "write_protect": True},
    "5": {"barcode": "PAC005LX", "kind": "worm"},
    "6": {"barcode": "PAC006L6", "capacity_mb": 4, "early_warning_kb": 512},
    "7": {"barcode": "CLN001CU", "kind": "clean"},
}


@dataclasses.dataclass(frozen=True)
class Configuration:
    """What the library is made of."""

    slots: int = 8
    mail_slots: int = 2
    drives: tuple[Identity, ...] = DEFAULT_DRIVES
    changer: Identity = DEFAULT_CHANGER
    cartridges: Cartridges = dataclasses.field(default_factory=lambda: DEFAULT_CARTRIDGES)
    drives_stay_on: bool = False
    """A crash is of the machine only: the drives keep their power and finish what they hold."""

    @classmethod
    def read(cls, path: Path) -> Configuration:
        """From a JSON file. :raises ValueError, TypeError: what is not known."""
        values = json.loads(path.read_text())
        if "drives" in values:
            values["drives"] = tuple(Identity(**drive) for drive in values["drives"])
        if "changer" in values:
            values["changer"] = Identity(**values["changer"])
        return cls(**values)


class Library:
    """Devices by name, and the cartridges in ``media``; ``media/library.json`` says what is where."""

    def __init__(self, media: Path, configuration: Configuration) -> None:
        media.mkdir(parents=True, exist_ok=True)
        self.media, self._configuration = media, configuration
        self._state = media / "library.json"
        Partition.drives_stay_on = configuration.drives_stay_on
        self.drives = [Drive(identity) for identity in configuration.drives]
        self.changer = Changer(
            configuration.changer, configuration.slots, configuration.mail_slots, self.drives
        )
        self.changer.moved = self.save
        try:
            state = json.loads(self._state.read_text())
        except FileNotFoundError:
            self.fill(configuration.cartridges)
        else:
            for address, barcode in state["at"].items():
                self.changer.lay(int(address), Cartridge(media, barcode))
            self.changer.sources |= {int(at): source for at, source in state["sources"].items()}
        self.save()

    @property
    def devices(self) -> dict[str, Device]:
        return {f"drive{at}": drive for at, drive in enumerate(self.drives)} | {"changer": self.changer}

    def save(self) -> None:
        new = self.media / "library.json.new"
        new.write_text(json.dumps({"at": self.changer.where(), "sources": self.changer.sources}))
        new.rename(self._state)

    def fill(self, cartridges: Cartridges) -> None:
        """Put new cartridges into empty slots."""
        for slot, options in cartridges.items():
            values = dict(options)
            cartridge = Cartridge(self.media, values.pop("barcode"), **values)
            self.changer.lay(SLOTS + int(slot) - 1, cartridge)

    def reset(self, cartridges: Cartridges | None) -> None:
        """As if bought today: other cartridges (or the first ones, blank), no fault, no attention."""
        for address in list(self.changer.where()):
            self.changer.lift(address)
        for folder in self.media.iterdir():
            if folder.is_dir():
                Cartridge(self.media, folder.name).destroy()
        for device in self.devices.values():
            device.faults.clear()
            device.alerts.clear()
            device.attentions.clear()
        for drive in self.drives:
            drive.prevent, drive.load_seconds = False, 0.0
        self.changer.door_open, self.changer.unloads_drives, self.changer.move_seconds = False, True, 0.0
        self.fill(self._configuration.cartridges if cartridges is None else cartridges)
        self.save()
