"""Moments as people name them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hsm.moments import moment

NOW = datetime(2026, 11, 23, 8, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("1d", timedelta(days=1)),
        ("12h", timedelta(hours=12)),
        (" 2w ", timedelta(weeks=2)),
        ("90 min", timedelta(minutes=90)),
        ("1.5 days", timedelta(hours=36)),
        ("3 months", timedelta(days=90)),
    ],
)
def test_a_length_is_so_long_ago_or_so_far_ahead(text: str, length: timedelta) -> None:
    assert moment(text, NOW) == NOW - length
    assert moment(text, NOW, ahead=True) == NOW + length


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2026-11-01T06:30Z", datetime(2026, 11, 1, 6, 30, tzinfo=UTC)),
        ("2026-11-01 06:30:15+01:00", datetime(2026, 11, 1, 5, 30, 15, tzinfo=UTC)),
        ("2026-11-01", datetime(2026, 11, 1).astimezone()),
        ("20261101", datetime(2026, 11, 1).astimezone()),
        ("2026-11-01T06:30", datetime(2026, 11, 1, 6, 30).astimezone()),
    ],
)
def test_a_date_or_time_is_local_where_it_names_no_zone(text: str, found: datetime) -> None:
    assert moment(text, NOW) == found


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("yesterday", "yesterday"),
        ("1m", "minutes or months"),
        ("5 parsecs", "not a unit of time"),
        ("10 GB", "is a size"),
        ("2026-13-01", "month must be in"),
        ("20260230", "day is out of range"),
        ("2026-11-01T25:00", "hour must be in"),
        ("01.11.2026", "01.11.2026"),
        ("-1d", "-1d"),
        ("0 days", "no time at all"),
        ("", "''"),
        ("900 years ago", "900 years ago"),
        ("7d; rm", "7d; rm"),
    ],
)
def test_what_cannot_be_read_is_named_with_what_to_write_instead(text: str, why: str) -> None:
    with pytest.raises(ValueError, match="write a length such as 12h") as caught:
        moment(text, NOW)
    assert why in str(caught.value)
    assert not text or text.strip()[:40] in str(caught.value)


def test_what_lies_before_any_calendar_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"999 years.*beyond any calendar"):
        moment("999 years", datetime(500, 1, 1, tzinfo=UTC))
