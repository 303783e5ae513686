"""Every library tells the same trouble by the same class of error, and its positions mean the same.

The scripts, and the libraries outside the laboratory, are in troubles.py; in the laboratory (``make lab``)
the same scripts run on its devices.
"""

from __future__ import annotations

import io
from typing import Any

import pytest

from drivers.base import VolumeLabel
from drivers.errors import Corrupt
from tests.contract.troubles import SCRIPTS, Player


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_same_trouble_is_told_by_the_same_error(bench: Any, name: str) -> None:
    player = Player(bench)
    came = [(step, player.outcome(step)) for step, _ in SCRIPTS[name]]
    assert came == SCRIPTS[name]


def test_positions_mean_the_same_on_every_library(bench: Any) -> None:
    """They grow in the order of writing, an empty object and a failed one included, and stay for good."""
    library = bench.library
    first, second = (element.address for element in library.inventory().drives())
    label = VolumeLabel(bench.barcodes[0], "uuid-A", "tape-a")
    library.label(label, first)
    store = library.mount(label, first)
    told: dict[str, int] = {}

    def put(key: str, size: int) -> None:
        told[key] = store.put(key, io.BytesIO(bytes(size)), size, None).position

    for key, size in (("a", 10), ("b", 0), ("c", 2_500_000)):
        put(key, size)
    with pytest.raises(Corrupt):
        store.put("failed", io.BytesIO(bytes(900_000)), 900_001, None)
    put("d", 1)
    store.delete("b")
    put("b", 5)
    store.flush()
    put("e", 700_000)
    store.flush()
    positions = list(told.values())
    assert all(isinstance(position, int) and position >= 0 for position in positions)
    order = ["a", "c", "d", "b", "e"]
    assert [told[key] for key in order] == sorted({told[key] for key in order})
    library.unmount(first)
    store = library.mount(label, second)
    assert [(stat.key, stat.position) for stat in store.list()] == [(key, told[key]) for key in order]
    bench.crash()
    store = bench.library.mount(label, first)
    assert [(stat.key, stat.position) for stat in store.list()] == [(key, told[key]) for key in order]
    assert {key: store.stat(key).position for key in order} == {key: told[key] for key in order}
