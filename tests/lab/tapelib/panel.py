"""The operator's panel and the fault injector: one JSON object a line in, one out.

Every request names its ``op``; ``drive`` (0, 1...) or ``"device": "changer"`` say which device.

| op | with | does |
|---|---|---|
| status | | element address -> barcode, ``door_open`` |
| reset | cartridges | new media, no faults; see Library.reset |
| fault | fault | see Fault.of |
| clear | | no more faults of that device |
| alert | flags | raises TapeAlert flags |
| door | open | neither moves nor tells what is where while it is open; attention 28/00 |
| insert, take | ie, barcode, options | a hand at mail slot 0, 1... |
| place | barcode, element, options, quiet | a hand puts a cartridge into any slot (or drive) |
| lift | barcode, quiet | a hand takes it out, wherever it is; it lies on the shelf, its data kept |
| relabel | barcode, new | another barcode is stuck on the cartridge |
| smudge | barcode, readable | its barcode cannot be read (any more) |
| mark | barcode, options | other properties: write_protect, capacity_mb, bad_spots, ... |
| pr | nexus, action, type, key, sakey | another host's PERSISTENT RESERVE OUT; without action, a look |
| set | name, value | load_seconds, move_seconds, unloads_drives... |

``quiet`` spares the attention: a magazine changed while the power was off, say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from tapelib.cartridge import Cartridge
from tapelib.changer import MAIL
from tapelib.device import Device, Fault
from tapelib.library import Library
from tapelib.sense import CheckCondition, ReservationConflict

NOT_READY_TO_READY, MAIL_SLOT_ACCESSED = (0x28, 0), (0x28, 1)
SETTABLE = frozenset({"load_seconds", "move_seconds", "unloads_drives"})

Request = Mapping[str, Any]


class Panel:
    """Answers requests about ``library``."""

    def __init__(self, library: Library) -> None:
        self._library, self._changer = library, library.changer
        self._acts: dict[str, Callable[[Request], dict[str, Any] | None]] = {
            name: getattr(self, f"_{name}")
            for name in (
                *("status", "reset", "fault", "clear", "alert", "door", "insert", "take"),
                *("place", "lift", "relabel", "smudge", "mark", "pr", "set"),
            )
        }

    def answer(self, line: str) -> str:
        """The answer to one line; an error is an answer too."""
        try:
            request = json.loads(line)
            return json.dumps(self._acts[request["op"]](request) or {})
        except KeyError as error:
            return json.dumps({"error": f"what is {error}?"})
        except CheckCondition as error:
            return json.dumps({"error": f"sense {error}"})
        except Exception as error:  # noqa: BLE001 -- whatever it is, the one who asked must be told
            return json.dumps({"error": repr(error)})

    def _device(self, request: Request) -> Device:
        if request.get("device") == "changer":
            return self._changer
        return self._library.drives[request.get("drive", 0)]

    def _find(self, barcode: str) -> tuple[int | None, Cartridge]:
        """Where it is (None: on the shelf) and the cartridge itself."""
        for address, held in self._changer.where().items():
            cartridge = self._changer.held(address)
            if held == barcode and cartridge is not None:
                return address, cartridge
        if not (self._library.media / barcode).is_dir():
            raise ValueError(f"there is no cartridge {barcode}")
        return None, Cartridge(self._library.media, barcode)

    def _status(self, request: Request) -> dict[str, Any]:
        return {"at": self._changer.where(), "door_open": self._changer.door_open}

    def _reset(self, request: Request) -> None:
        self._library.reset(request.get("cartridges"))

    def _fault(self, request: Request) -> None:
        self._device(request).faults.append(Fault.of(request["fault"]))

    def _clear(self, request: Request) -> None:
        self._device(request).faults.clear()

    def _alert(self, request: Request) -> None:
        self._device(request).alerts |= set(request["flags"])

    def _door(self, request: Request) -> None:
        self._changer.door_open = request["open"]
        self._changer.attentions.append(NOT_READY_TO_READY)

    def _insert(self, request: Request) -> None:
        address = MAIL + request["ie"]
        cartridge = Cartridge(self._library.media, request["barcode"], **request.get("options", {}))
        self._changer.lay(address, cartridge)
        self._changer.by_operator.add(address)
        self._changer.attentions.append(MAIL_SLOT_ACCESSED)
        self._library.save()

    def _take(self, request: Request) -> dict[str, Any]:
        cartridge = self._changer.lift(MAIL + request["ie"])
        self._changer.attentions.append(MAIL_SLOT_ACCESSED)
        self._library.save()
        return {"barcode": cartridge.barcode}

    def _place(self, request: Request) -> None:
        cartridge = Cartridge(self._library.media, request["barcode"], **request.get("options", {}))
        self._changer.lay(request["element"], cartridge)
        self._touched(request)

    def _lift(self, request: Request) -> dict[str, Any]:
        address, _ = self._find(request["barcode"])
        if address is None:
            raise ValueError(f"{request['barcode']} is on the shelf already")
        self._changer.lift(address)
        self._touched(request)
        return {"element": address}

    def _touched(self, request: Request) -> None:
        if not request.get("quiet"):
            self._changer.attentions.append(NOT_READY_TO_READY)
        self._library.save()

    def _relabel(self, request: Request) -> None:
        address, cartridge = self._find(request["barcode"])
        if address is not None and address not in self._changer.shelves:
            raise ValueError(f"{request['barcode']} is in a drive")
        cartridge.rename(request["new"])
        self._library.save()

    def _smudge(self, request: Request) -> None:
        _, cartridge = self._find(request["barcode"])
        cartridge.memory.readable_barcode = request.get("readable", False)
        cartridge.save()

    def _mark(self, request: Request) -> None:
        _, cartridge = self._find(request["barcode"])
        for name, value in request["options"].items():
            if not hasattr(cartridge.memory, name):
                raise ValueError(f"a cartridge has no {name}")
            setattr(cartridge.memory, name, value)
        cartridge.save()

    def _pr(self, request: Request) -> dict[str, Any]:
        reservations = self._device(request).reservations
        keys = [int(request.get(name, "0"), 0) for name in ("key", "sakey")]
        try:
            if "action" in request:
                reservations.out(request["nexus"], request["action"], request.get("type", 0), *keys)
        except ReservationConflict:
            return {"error": "reservation conflict"}
        held = {nexus: hex(key) for nexus, key in reservations.keys.items()}
        return {"keys": held, "holder": reservations.holder, "type": reservations.type}

    def _set(self, request: Request) -> None:
        if request["name"] not in SETTABLE:
            raise ValueError(f"{request['name']} cannot be set; these can: {', '.join(sorted(SETTABLE))}")
        setattr(self._device(request), request["name"], request["value"])
