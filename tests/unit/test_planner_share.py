"""Of several equally quick copies those are read whose volumes serve most."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hsm.planner import share_volumes


def test_what_lies_in_a_drive_or_is_brought_anyway_comes_first() -> None:
    assert share_volumes({1: ["A", "B"], 2: ["C", "B"]}, at_hand=["B"]) == {1: "B", 2: "B"}


def test_what_one_request_must_have_serves_the_others_too() -> None:
    assert share_volumes({1: ["A", "B"], 2: ["B"], 3: ["A", "C", "B"]}) == {1: "B", 2: "B", 3: "B"}


def test_the_volume_that_serves_most_is_taken_and_then_the_one_that_serves_most_of_the_rest() -> None:
    options = {1: ["A", "D"], 2: ["B", "D"], 3: ["C", "D"], 4: ["E", "F"], 5: ["F", "E"]}
    assert share_volumes(options) == {1: "D", 2: "D", 3: "D", 4: "E", 5: "E"}


def test_where_nothing_decides_each_has_what_it_would_rather_have() -> None:
    assert share_volumes({1: ["B", "A"], 2: ["C", "D"]}) == {1: "B", 2: "C"}
    assert share_volumes({}) == {}


NAMES = st.sampled_from("ABCDEF")


@given(
    st.dictionaries(st.integers(0, 12), st.lists(NAMES, min_size=1, max_size=4, unique=True)), st.sets(NAMES)
)
def test_everyone_has_one_of_their_own_options_and_one_at_hand_where_there_is_one(
    options: dict[int, list[str]], at_hand: set[str]
) -> None:
    chosen = share_volumes(options, at_hand)
    assert chosen.keys() == options.keys()
    assert all(chosen[request] in names for request, names in options.items())
    backwards = share_volumes(dict(reversed(options.items())), at_hand)
    assert backwards == chosen
    for request, names in options.items():
        assert chosen[request] in at_hand or not at_hand & set(names)
