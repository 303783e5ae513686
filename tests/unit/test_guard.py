"""Promise 3: the last good copies are untouchable."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsm.guard import CopyFact, Permit, may_release
from hsm.model import Goal
from hsm.states import CopyState, VolumeState

BAD_VOLUMES = (VolumeState.SUSPECT, VolumeState.RETIRED, VolumeState.LOST, VolumeState.SCRATCH)


def fact(
    copy_pk: int,
    pool: str = "tape-a",
    state: CopyState = CopyState.VERIFIED,
    volume_state: VolumeState = VolumeState.ACTIVE,
    volume_pk: int | None = None,
) -> CopyFact:
    return CopyFact(copy_pk, copy_pk if volume_pk is None else volume_pk, pool, state, volume_state)


ONLINE = fact(1, "online")


def reference(copy: CopyFact, others: tuple[CopyFact, ...], goals: tuple[Goal, ...]) -> bool:
    """The promise said another way: do it, then count what is left by scanning every pair."""
    if copy.state.value not in ("verified", "suspect"):
        return False
    left = []
    for other in others:
        same = other.copy_pk == copy.copy_pk or other.volume_pk == copy.volume_pk
        healthy = other.volume_state.value in ("labelled", "active", "full")
        if not same and healthy and other.state.value == "verified":
            left.append((other.pool, other.volume_pk))
    demanded: dict[str, int] = {"": 1}  # one anywhere
    for goal in goals:
        if not (copy.state.value == "suspect" and goal.pool == copy.pool):
            demanded[goal.pool] = max(demanded.get(goal.pool, 0), goal.copies)
    return all(
        len({volume for there, volume in left if pool in ("", there)}) >= copies
        for pool, copies in demanded.items()
    )


POOL_OF = {1: "online", 2: "tape-a", 3: "tape-a", 4: "vault"}
GOALS = [
    (),
    (Goal("tape-a", 1),),
    (Goal("tape-a", 2),),
    (Goal("online", 1),),
    (Goal("tape-a", 1), Goal("vault", 1)),
]


def test_every_small_case_agrees_with_an_independent_count() -> None:
    """All states of the released copy, two others and their volumes, same volume included."""
    allowed = 0
    volumes_of_others = list(itertools.combinations_with_replacement((1, 2, 3, 4), 2))
    volume_states = (VolumeState.ACTIVE, VolumeState.SUSPECT, VolumeState.LOST)
    for state, states, volumes, conditions, goals in itertools.product(
        CopyState,
        itertools.product(CopyState, repeat=2),
        volumes_of_others,
        itertools.product(volume_states, repeat=2),
        GOALS,
    ):
        copy = CopyFact(10, 1, "online", state, VolumeState.ACTIVE)
        others = tuple(
            CopyFact(20 + i, volumes[i], POOL_OF[volumes[i]], states[i], conditions[i]) for i in range(2)
        )
        verdict = may_release(copy, others, goals)
        assert verdict.allowed == reference(copy, others, goals), (copy, others, goals, verdict)
        allowed += verdict.allowed
    assert allowed > 100  # the reference is no constant either


facts = st.builds(
    lambda pk, volume, state, volume_state: CopyFact(pk, volume, POOL_OF[volume], state, volume_state),
    st.integers(1, 8),
    st.sampled_from(sorted(POOL_OF)),
    st.sampled_from(CopyState) | st.just(CopyState.VERIFIED),
    st.sampled_from(VolumeState) | st.just(VolumeState.FULL),
)
goals = st.lists(
    st.builds(Goal, st.sampled_from(sorted({*POOL_OF.values(), "cloud"})), st.integers(1, 3)), max_size=3
)


@given(facts, st.lists(facts, max_size=7), goals)
@settings(max_examples=500)
def test_any_case_agrees_with_an_independent_count(
    copy: CopyFact, others: list[CopyFact], wanted: list[Goal]
) -> None:
    assert may_release(copy, others, wanted).allowed == reference(copy, tuple(others), tuple(wanted))


@given(
    st.lists(facts, min_size=1, max_size=6, unique_by=lambda f: f.copy_pk), goals, st.permutations(range(6))
)
@settings(max_examples=500)
def test_releasing_one_after_another_always_ends_with_a_verified_copy(
    copies: list[CopyFact], wanted: list[Goal], order: list[int]
) -> None:
    """In whatever order they are asked for: a good copy is left where there was one, no goal is undone."""

    def good(present: list[CopyFact], pool: str | None = None) -> int:
        return len(
            {
                each.volume_pk
                for each in present
                if each.state is CopyState.VERIFIED
                and each.volume_state not in BAD_VOLUMES
                and pool in (None, each.pool)
            }
        )

    present = list(copies)
    before = {goal: good(present, goal.pool) for goal in wanted}
    for index in order:
        if index >= len(copies):
            continue
        others = [each for each in present if each.copy_pk != copies[index].copy_pk]
        if may_release(copies[index], others, wanted).allowed:
            present = others
    if good(copies):
        assert good(present) >= 1
    for goal in wanted:
        assert good(present, goal.pool) >= min(goal.copies, before[goal])


def test_the_only_copy_stays() -> None:
    verdict = may_release(ONLINE, [], [])
    assert not verdict.allowed
    assert verdict.reason == "no verified copy on another good volume would remain"


def test_the_released_copy_never_counts_for_itself() -> None:
    assert not may_release(ONLINE, [ONLINE, ONLINE], []).allowed


def test_a_second_record_on_the_same_volume_does_not_count() -> None:
    assert not may_release(ONLINE, [fact(2, "online", volume_pk=ONLINE.volume_pk)], []).allowed


@pytest.mark.parametrize("state", [s for s in CopyState if s is not CopyState.VERIFIED])
def test_a_copy_that_was_not_read_back_does_not_count(state: CopyState) -> None:
    assert not may_release(ONLINE, [fact(2, state=state)], []).allowed


@pytest.mark.parametrize("volume_state", BAD_VOLUMES)
def test_a_copy_on_a_volume_in_doubt_does_not_count(volume_state: VolumeState) -> None:
    assert not may_release(ONLINE, [fact(2, volume_state=volume_state)], []).allowed


def test_two_copies_on_one_volume_are_one() -> None:
    both = [fact(2, volume_pk=7), fact(3, volume_pk=7)]
    verdict = may_release(ONLINE, both, [Goal("tape-a", 2)])
    assert not verdict.allowed
    assert verdict.reason == "policy demands 2 verified in tape-a; there are 1 on distinct good volumes"
    assert may_release(ONLINE, [fact(2), fact(3)], [Goal("tape-a", 2)]).allowed


def test_every_goal_must_be_met_and_the_strictest_of_a_pool_wins() -> None:
    others = [fact(2), fact(3, "vault")]
    assert may_release(ONLINE, others, [Goal("tape-a", 1), Goal("vault", 1)]).allowed
    assert not may_release(ONLINE, others, [Goal("tape-a", 1), Goal("vault", 1), Goal("cloud", 1)]).allowed
    assert not may_release(ONLINE, others, [Goal("tape-a", 1), Goal("tape-a", 2)]).allowed
    assert not may_release(ONLINE, others, [Goal("tape-a", 2), Goal("tape-a", 1)]).allowed


def test_a_pool_that_policy_still_wants_is_not_released_from() -> None:
    verdict = may_release(ONLINE, [fact(2), fact(3)], [Goal("online", 1)])
    assert not verdict.allowed
    assert (
        verdict.reason
        == "policy demands 1 verified in online, the pool to release from; 0 would remain there"
    )


def test_a_surplus_copy_of_a_pool_may_go() -> None:
    """What repack needs: the package is on a new cartridge of the same pool, so the old one may let go."""
    assert may_release(fact(1), [fact(2)], [Goal("tape-a", 1)]).allowed
    assert not may_release(fact(1), [fact(2)], [Goal("tape-a", 2)]).allowed


@pytest.mark.parametrize(
    "state", [CopyState.WRITING, CopyState.WRITTEN, CopyState.RELEASING, CopyState.RELEASED]
)
def test_a_copy_in_the_middle_of_something_is_not_released(state: CopyState) -> None:
    verdict = may_release(fact(1, state=state), [fact(2), fact(3)], [])
    assert not verdict.allowed
    assert state.value in verdict.reason


def test_a_suspect_copy_may_go_only_while_a_verified_one_remains() -> None:
    suspect = fact(1, "nearline", CopyState.SUSPECT)
    assert may_release(suspect, [fact(2)], []).allowed
    assert not may_release(suspect, [], []).allowed
    assert not may_release(suspect, [fact(2, state=CopyState.WRITTEN)], []).allowed
    assert not may_release(suspect, [fact(2, volume_state=VolumeState.SUSPECT)], []).allowed


def test_a_suspect_copy_may_go_though_its_own_pool_lacks_one_but_not_while_another_pool_does() -> None:
    """It counts for nothing, and a pool of one volume could never be mended otherwise."""
    suspect = fact(1, "nearline", CopyState.SUSPECT)
    assert may_release(suspect, [fact(2)], [Goal("nearline", 1), Goal("tape-a", 1)]).allowed
    assert not may_release(suspect, [fact(2)], [Goal("nearline", 1), Goal("vault", 1)]).allowed


def test_the_reason_for_a_release_names_what_remains() -> None:
    assert may_release(ONLINE, [fact(2), fact(3, "vault")], []).reason == (
        "verified copies remain on 2 volumes: tape-a, vault"
    )


def test_a_goal_of_a_group_counts_copies_in_all_its_pools() -> None:
    goal = Goal("tape", 2, ("tape-a", "tape-b"))
    a, b = fact(2, "tape-a"), fact(3, "tape-b")
    assert may_release(ONLINE, [a, b], [goal]).allowed
    refused = may_release(ONLINE, [a], [goal])
    assert not refused.allowed
    assert "policy demands 2 verified in tape; there are 1" in refused.reason
    own = may_release(a, [ONLINE, b], [goal])
    assert not own.allowed, "its own pool counts for the group"
    assert may_release(a, [ONLINE, b, fact(4, "tape-b")], [goal]).allowed


def test_a_goal_of_sites_counts_different_sites_and_not_copies() -> None:
    pools = ("online", "tape-a", "tape-b", "vault")
    goal = Goal("sites", 2, pools, ("here", "here", "here", "there"))
    here = [fact(2, "tape-a"), fact(3, "tape-b")]
    refused = may_release(ONLINE, here, [goal])
    assert not refused.allowed
    assert "2 different sites; 1 would remain" in refused.reason
    assert may_release(ONLINE, [*here, fact(4, "vault")], [goal]).allowed
    unverified = fact(4, "vault", CopyState.WRITTEN)
    assert not may_release(ONLINE, [*here, unverified], [goal]).allowed


def test_a_suspect_copy_may_go_although_the_group_it_belongs_to_lacks_one() -> None:
    suspect = fact(2, "tape-a", CopyState.SUSPECT)
    group, other = Goal("tape", 2, ("tape-a", "tape-b")), Goal("vault", 1)
    assert may_release(suspect, [ONLINE], [group]).allowed
    assert not may_release(suspect, [ONLINE], [group, other]).allowed


def test_a_goal_survives_being_kept_in_a_request() -> None:
    for goal in (
        Goal("tape", 2),
        Goal("tape", 1, ("tape-a", "tape-b")),
        Goal("sites", 2, ("a", "b"), ("x", "y")),
    ):
        assert Goal.of(goal.record()) == goal
    with pytest.raises(ValueError, match="every pool stands at a site"):
        Goal("sites", 2, ("a", "b"), ("x",))


HELD = "the study is under legal hold since 2026-01-01, placed by anna: court"


@settings(max_examples=200)
@given(st.data())
def test_what_is_kept_by_law_is_released_under_no_goals_and_with_no_number_of_copies(
    data: st.DataObject,
) -> None:
    states = st.sampled_from(CopyState)
    volumes = st.sampled_from(VolumeState)
    others = [
        fact(
            number,
            data.draw(st.sampled_from(["online", "tape-a", "vault"])),
            data.draw(states),
            data.draw(volumes),
        )
        for number in range(2, 2 + data.draw(st.integers(0, 4)))
    ]
    copy = fact(1, "online", data.draw(states), data.draw(volumes))
    goals = data.draw(st.sampled_from(GOALS))
    free, kept = may_release(copy, others, goals), may_release(copy, others, goals, HELD)
    if copy.state is CopyState.SUSPECT:
        assert kept == free  # what is kept for a court must be mended too
    else:
        assert not kept.allowed
        assert kept.reason == (HELD if copy.state is CopyState.VERIFIED else free.reason)


PERMIT = Permit(datetime(2026, 3, 1, tzinfo=UTC), "anna", datetime(2026, 3, 31, tzinfo=UTC))


def test_a_deletion_whose_day_has_come_lets_the_last_copy_go_whatever_the_goals() -> None:
    only = CopyFact(1, 1, "tape", CopyState.VERIFIED, VolumeState.ACTIVE)
    assert not may_release(only, [], [Goal("tape", 2)]).allowed
    verdict = may_release(only, [], [Goal("tape", 2)], permit=PERMIT)
    assert verdict.allowed and "anna" in verdict.reason and "2026-03-31" in verdict.reason


def test_what_is_kept_by_law_stays_though_its_deletion_is_due() -> None:
    for state in (CopyState.VERIFIED, CopyState.SUSPECT):
        only = CopyFact(1, 1, "tape", state, VolumeState.ACTIVE)
        assert not may_release(only, [], [], "a legal hold", PERMIT).allowed
