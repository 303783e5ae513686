"""Values as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cli import text
from cli.serve import announcement


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (None, ""),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1023 * 1024, "1023 KiB"),
        (20 * 2**30, "20 GiB"),
        (3 * 2**60, "3072 PiB"),
    ],
)
def test_sizes_have_binary_units(count: int | None, shown: str) -> None:
    assert text.size(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (0.4, "0 s"), (59, "59 s"), (60, "1 min"), (7199, "1 h"), (172800, "2 d")],
)
def test_spans_are_said_in_their_largest_unit(seconds: float, shown: str) -> None:
    assert text.span(seconds) == shown


def test_an_age_is_never_negative_where_clocks_differ() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert text.age("2026-01-01T00:00:05Z", now) == "0 s"
    assert text.age("2025-12-31T22:00:00Z", now) == "2 h"
    assert text.age(None, now) == ""


def test_what_a_peer_wrote_cannot_steer_the_terminal() -> None:
    assert text.clean("DOE\x1b[2J^\x07JANE\n\u202e") == "DOE\ufffd[2J^\ufffdJANE\ufffd\ufffd"
    assert text.clean("山田^太郎") == "山田^太郎"


def test_a_shortened_uid_keeps_both_ends() -> None:
    uid = "1.2.826.0.1.3680043.8.498.1234567890123456789"
    short = text.short(uid, 20)
    assert len(short) == 20
    head, tail = short.split("…")
    assert uid.startswith(head)
    assert uid.endswith(tail)
    assert text.short("1.2.3", 20) == "1.2.3"


def test_days_are_dicom_dates_and_anything_else_as_it_is() -> None:
    assert text.day("20240110") == "2024-01-10"
    assert text.day("2024") == "2024"
    assert text.day("") == ""


def test_words_say_any_answer_on_one_line() -> None:
    assert text.words({"a": [1, 2], "b": None, "c": True}) == "a 1, 2, b -, c yes"
    assert text.words([]) == text.words({}) == text.words("") == "-"


def test_the_announcement_ends_with_ready_and_says_what_to_try() -> None:
    lines = announcement(
        {
            "version": "0.1.0",
            "listen": {"dicom": "0.0.0.0:104", "ae_title": "HSM", "api": "/run/hsm.sock"},
            "problems": ["pool online: nearly full"],
            "home": "/var/lib/hsm",
        }
    )
    assert lines[-1] == "ready: HSM on 0.0.0.0:104"
    assert "  echoscu -aec HSM 127.0.0.1 104" in lines
    assert "  problem  pool online: nearly full" in lines
    assert any("/run/hsm.sock status" in line for line in lines)
