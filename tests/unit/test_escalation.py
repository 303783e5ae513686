"""Who is told of which prompts, when, and how often."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hsm.config.operators import QuietConfig, StepConfig
from hsm.operators.escalation import (
    ATTEMPTS_MAX,
    Sent,
    Waiting,
    begun,
    delivered,
    due,
    failed,
    is_quiet,
)
from hsm.operators.message import compose
from hsm.states import NoticeState

AT = datetime(2026, 3, 2, 2, tzinfo=UTC)
MAIL = StepConfig.model_validate({"after": "10m", "to": "mail", "repeat": "1 h"})
BOSS = StepConfig.model_validate({"after": "30m", "to": "boss"})
PAGE = StepConfig.model_validate({"after": "0 s", "to": "page", "urgent": True})


def waiting(pk: int = 1, minutes: int = 0, priority: int = 10, walker: str = "") -> Waiting:
    return Waiting(pk, priority, AT - timedelta(minutes=minutes), walker)


def told(found: object) -> list[tuple[int, str]]:
    return [(each.prompt, each.step.to) for each in found]  # type: ignore[attr-defined]


def test_each_step_has_its_time_and_the_urgent_are_named_first() -> None:
    prompts = [waiting(1, 9), waiting(2, 10), waiting(3, 31), waiting(4, 12, priority=0)]
    found = told(due(prompts, [MAIL, BOSS], {}, AT, quiet=False))
    assert found == [(4, "mail"), (3, "mail"), (2, "mail"), (3, "boss")]


def test_while_somebody_is_on_the_way_nobody_is_told() -> None:
    assert due([waiting(1, 60, walker="alice")], [MAIL, BOSS], {}, AT, quiet=False) == []


def test_quiet_hours_keep_quiet_but_for_stat_prompts_and_urgent_steps() -> None:
    prompts = [waiting(1, 60), waiting(2, 60, priority=0)]
    assert told(due(prompts, [MAIL], {}, AT, quiet=True)) == [(2, "mail")]
    assert told(due(prompts, [PAGE], {}, AT, quiet=True)) == [(2, "page"), (1, "page")]


def test_what_was_sent_is_sent_again_only_by_a_step_that_repeats_and_once_after_a_long_absence() -> None:
    notices = {}
    for step in (MAIL, BOSS):
        first = delivered(begun(None, AT, 900), step, AT)
        assert (first.state, first.sent) == (NoticeState.SENT, 1)
        notices[1, step.name] = first
    prompts = [waiting(1, 40)]
    assert due(prompts, [MAIL, BOSS], notices, AT + timedelta(minutes=59), quiet=False) == []
    later = AT + timedelta(days=3)
    assert told(due(prompts, [MAIL, BOSS], notices, later, quiet=False)) == [(1, "mail")]
    again = delivered(begun(notices[1, MAIL.name], later, 900), MAIL, later)
    assert again.sent == 2
    assert due(prompts, [MAIL], {(1, MAIL.name): again}, later + timedelta(minutes=59), quiet=False) == []


def test_a_message_that_nobody_knows_the_end_of_is_sent_again_after_the_lease() -> None:
    notice = {(1, MAIL.name): begun(None, AT, 900)}
    prompts = [waiting(1, 40)]
    assert due(prompts, [MAIL], notice, AT + timedelta(seconds=899), quiet=False) == []
    assert told(due(prompts, [MAIL], notice, AT + timedelta(seconds=900), quiet=False)) == [(1, "mail")]


def test_what_cannot_be_sent_is_tried_with_longer_and_longer_pauses_and_given_up() -> None:
    notice: Sent | None = None
    now, pauses = AT, []
    for _ in range(ATTEMPTS_MAX):
        notice = failed(begun(notice, now, 900), BOSS, now, "no route to host")
        pauses.append((notice.next_at - now).total_seconds())
        now = notice.next_at
    assert notice is not None
    assert pauses[:5] == [60, 120, 240, 480, 900]
    assert (notice.state, notice.error) == (NoticeState.FAILED, "no route to host")
    assert (
        due([waiting(1, 600)], [BOSS], {(1, BOSS.name): notice}, now + timedelta(days=9), quiet=False) == []
    )


def test_a_step_that_repeats_and_was_given_up_begins_anew_with_its_next_period() -> None:
    lost = Sent(NoticeState.PENDING, 0, ATTEMPTS_MAX, None, AT)
    notice = failed(lost, MAIL, AT, "refused")
    assert notice.state is NoticeState.FAILED
    later = AT + timedelta(hours=1)
    assert told(due([waiting(1, 60)], [MAIL], {(1, MAIL.name): notice}, later, quiet=False)) == [(1, "mail")]
    assert begun(notice, later, 900).attempts == 1


@pytest.mark.parametrize(
    ("hour", "quiet"), [("21:59", False), ("22:00", True), ("03:00", True), ("06:29", True), ("06:30", False)]
)
def test_a_night_passes_midnight_in_local_time(hour: str, quiet: bool) -> None:
    config = QuietConfig.model_validate({"start": "22:00", "end": "06:30", "zone": "Asia/Kolkata"})
    local = datetime.fromisoformat(f"2026-03-03T{hour}:00+05:30")
    assert is_quiet(config, local.astimezone(UTC)) is quiet


def test_a_day_may_be_quiet_as_a_whole_and_no_hours_are_none() -> None:
    sunday = datetime(2026, 3, 1, 12, tzinfo=UTC)
    config = QuietConfig.model_validate({"start": "00:00", "end": "00:00", "days": ["sun"]})
    assert is_quiet(config, sunday)
    assert not is_quiet(config, sunday + timedelta(days=1))
    assert not is_quiet(None, sunday)


def prompt(number: int, **more: object) -> dict[str, object]:
    return {
        "id": number,
        "barcode": f"HSM{number:03}L8",
        "where": "shelf B3",
        "into": "mail slot 101",
        "library": "lib",
        "priority": "routine",
        "created_at": AT,
        "waiters": [{"who": f"C-MOVE from WS{n}\r\nBcc: x@y", "since": AT} for n in range(5)],
        "alternatives": [{"barcode": "HSM900L8", "where": "shelf C1"}],
        "note": "",
        "bytes": 5,
        "requests": 1,
    } | more


def test_one_message_tells_of_all_of_them_in_bounds_and_without_forged_lines() -> None:
    message = compose([prompt(n) for n in range(200)], "HSM", AT)
    assert message.subject == "[HSM] 200 volumes are waited for: HSM000L8, HSM001L8, HSM002L8 and 197 more"
    assert len(message.text) < 20_000
    assert "and 150 more" in message.text
    assert "\nBcc" not in message.text
    assert "\r" not in message.text
    assert len(message.data["prompts"]) == 50
    assert "URGENT" in compose([prompt(1, priority="stat")], "HSM", AT).subject
