"""What the kinds of recordable media hold, in bytes (of user data, as their standards say). Pure."""

from __future__ import annotations

from dataclasses import dataclass

from drivers.errors import Permanent


@dataclass(frozen=True, slots=True)
class Medium:
    """A kind of disc."""

    name: str
    capacity: int
    session: int
    """What each further session costs: lead-in, lead-out, borders, and the directory."""

    def usable(self, used: int = 0) -> int:
        """What may still be written: one part in fifty stays free, and room for a last session."""
        return max(0, self.capacity - self.capacity // 50 - self.session - used)


_MB = 1 << 20
_KINDS = (
    Medium("CD", 359_844 * 2048, 14 * _MB),
    Medium("DVD-R", 2_298_496 * 2048, 32 * _MB),
    Medium("DVD+R", 2_295_104 * 2048, 32 * _MB),
    Medium("DVD+R DL", 4_173_824 * 2048, 32 * _MB),
    Medium("BD-R", 11_826_176 * 2048, 16 * _MB),
    Medium("BD-R DL", 23_652_352 * 2048, 16 * _MB),
    Medium("BD-R TL", 47_305_728 * 2048, 16 * _MB),
    Medium("M-DISC DVD", 2_295_104 * 2048, 32 * _MB),
    Medium("M-DISC BD", 11_826_176 * 2048, 16 * _MB),
    Medium("M-DISC BD TL", 47_305_728 * 2048, 16 * _MB),
)
NAMES = tuple(medium.name for medium in _KINDS)


def medium(name: str) -> Medium:
    """:raises Permanent: there is no such kind."""
    found = next((each for each in _KINDS if each.name == name), None)
    if found is None:
        raise Permanent(f"option medium: {name!r}; expected one of {', '.join(NAMES)}")
    return found
