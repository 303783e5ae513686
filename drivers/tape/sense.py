"""What a changer's complaint means for the caller. Pure.

mtx prints fixed format sense data (SPC): "Sense Key=Illegal Request", "Additional Sense Code = 3B" and
"Additional Sense Qualifier = 0E", the numbers in hexadecimal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from drivers.errors import DriverError, OperatorNeeded, Permanent, Retryable, StaleMap

_KEY = re.compile(r"Sense Key\s*=\s*([A-Za-z0-9 ]+)")
_CODE = re.compile(r"Additional Sense Code\s*=\s*([0-9A-Fa-f]{1,2})")
_QUALIFIER = re.compile(r"Additional Sense (?:Code )?Qualifier\s*=\s*([0-9A-Fa-f]{1,2})")
_KEYS = (
    "no sense", "recovered error", "not ready", "medium error", "hardware error", "illegal request",
    "unit attention", "data protect", "blank check", "0x09", "0x0a", "aborted command", "0x0c",
    "volume overflow", "miscompare", "0x0f",
)  # fmt: skip
"""In the words of mtx, by their number (SPC-4 section 4.5.6)."""
_ABORTED = 0x0B


@dataclass(frozen=True, slots=True)
class Sense:
    """Sense key, additional sense code and its qualifier."""

    key: int
    code: int
    qualifier: int

    def __str__(self) -> str:
        return f"{self.key:X}/{self.code:02X}/{self.qualifier:02X}"


def parse_sense(text: str) -> Sense | None:
    """The last sense data that mtx printed; None when there are none."""
    key, code = _KEY.findall(text), _CODE.findall(text)
    if not key or not code:
        return None
    qualifier = _QUALIFIER.findall(text)
    name = key[-1].strip().lower()
    number = _KEYS.index(name) if name in _KEYS else 0
    return Sense(number, int(code[-1], 16), int(qualifier[-1], 16) if qualifier else 0)


def is_attention(sense: Sense | None) -> bool:
    """Whether the changer only wants to tell that something has changed; the command did not run."""
    return sense is not None and sense.key == 6


def changer_error(what: str, said: str) -> DriverError:
    """The error for ``what`` (a verb and its objects), of what mtx printed."""
    sense = parse_sense(said)
    if sense is None:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        last = lines[-1] if lines else "no message"
        if "Permission denied" in said or "No such file" in said or "No such device" in said:
            return OperatorNeeded(f"{what}: {last}; is the changer attached, and may this user open it?")
        if "Empty" in said or "Full" in said or "is already" in said.lower():
            return StaleMap(f"{what}: {last}; a cartridge was moved by hand: take an inventory")
        return Retryable(f"{what}: {last}")
    error, advice = _judge(sense)
    return error(f"{what}: the changer says {sense}: {advice}")


_OPENED = "the door is open or a magazine is out; close it and take an inventory"
_MOVED = "what lies in the library has changed; take an inventory"
_KNOWN: dict[tuple[int, int], tuple[type[DriverError], str]] = {
    (0x04, 0x01): (Retryable, "it is getting ready"),
    (0x04, 0x03): (OperatorNeeded, "somebody must look at its panel"),
    (0x04, 0x12): (OperatorNeeded, "it is off line; put it on line at its panel"),
    (0x04, 0x18): (StaleMap, _OPENED),
    (0x04, 0x83): (StaleMap, _OPENED),
    (0x3A, 0x02): (StaleMap, _OPENED),
    (0x3B, 0x0D): (StaleMap, "the destination is occupied; a cartridge was moved by hand: take an inventory"),
    (0x3B, 0x0E): (StaleMap, "the source is empty; a cartridge was moved by hand: take an inventory"),
    (0x3B, 0x11): (OperatorNeeded, "a magazine cannot be reached; look at it"),
    (0x3B, 0x12): (StaleMap, "a magazine has been taken out; put it back or take an inventory"),
    (0x3B, 0x13): (StaleMap, "a magazine has been put in; take an inventory"),
    (0x3B, 0x14): (OperatorNeeded, "a magazine is locked"),
    (0x30, 0x03): (Permanent, "that is a cleaning cartridge"),
    (0x53, 0x02): (Retryable, "the drive holds its cartridge; unload it first"),
}


def _judge(sense: Sense) -> tuple[type[DriverError], str]:
    known = _KNOWN.get((sense.code, sense.qualifier))
    if known is not None:
        return known
    if sense.key == 6:
        return StaleMap, _MOVED
    if sense.key == _ABORTED:
        return Retryable, "it broke the command off"
    if sense.code in (0x15, 0x3B, 0x44, 0x53, 0x83) or sense.key == 4:
        return OperatorNeeded, "the robot failed; look at the library, it may be jammed"
    if sense.key == 2:
        return OperatorNeeded, "it is not ready; look at the library's panel"
    if sense.key == 5:
        return Permanent, "it refuses the command"
    return Retryable, "it may work when tried again"
