"""How much of the staging area a package takes that passes through it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hsm.window import SEGMENTS_MAX, passes_at_most, window_for


@given(area=st.integers(1 << 20, 1 << 45), share=st.fractions(0, 2))
def test_what_passes_has_room_for_itself_and_two_segments_and_nothing_else_fits_the_area(
    area: int, share: float
) -> None:
    for largest in (int(area * share), passes_at_most(area), passes_at_most(area) + 1):
        window = window_for(largest, area)
        assert largest + 2 * window.segment <= window.size
        assert (window.size <= area) is (largest <= passes_at_most(area))


@given(area=st.integers(1 << 20, 1 << 45))
def test_an_instance_may_be_nearly_as_large_as_the_area(area: int) -> None:
    assert passes_at_most(area) > area * 0.96
    assert area - passes_at_most(area) <= 2 * max(area // SEGMENTS_MAX, 4096)
