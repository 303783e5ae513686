"""Histories: the file, the scale, and the hospital that never was."""

from __future__ import annotations

import gzip
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from whatif_world import BEGIN, DAY, HOUR, access, arrival, in_order, play

from policies.whatif.history import Access, AccessKind, Arrival, Event, HistoryError, scaled, until
from policies.whatif.historyfile import read_history, write_history
from policies.whatif.synthetic import MIX, Hospital, Modality, synthetic

YEAR = (datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))

EVENTS: list[Event] = [
    arrival(
        "1.2", BEGIN, 5, instances=3, body_parts=("CHEST", "HEAD"), legal_hold=True, institution=None,
        description='Thorax, "p.a." Ä',
    ),
    access("1.2", BEGIN + HOUR),
    Access(BEGIN + 2 * HOUR, "1.2", AccessKind.QUERY),
    arrival("1.3", BEGIN + 3 * HOUR, 7, station="x"),
]  # fmt: skip


@pytest.mark.parametrize("name", ["h.jsonl", "h.jsonl.gz", "h.csv", "h.csv.gz"])
def test_a_history_comes_back_from_its_file_as_it_was(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert write_history(path, EVENTS) == 4
    back = list(read_history(path))
    assert [(event.at, event.study, type(event)) for event in back] == [
        (event.at, event.study, type(event)) for event in EVENTS
    ]
    first = back[0]
    assert isinstance(first, Arrival)
    known = {key: value for key, value in EVENTS[0].facts.items() if value is not None}  # type: ignore[union-attr]
    assert first.facts == known
    assert back[2].kind is AccessKind.QUERY  # type: ignore[union-attr]


def test_the_same_history_gives_the_same_bytes(tmp_path: Path) -> None:
    write_history(tmp_path / "a.jsonl.gz", EVENTS)
    write_history(tmp_path / "b.jsonl.gz", EVENTS)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("h.jsonl", '{"event":"arrival"}\n', r"h.jsonl:1: .*lacks 'at'"),
        ("h.jsonl", "\n\nnot json\n", r"h.jsonl:3: .*not JSON"),
        ("h.jsonl", "[1]\n", r"h.jsonl:1: .*a JSON object on each line"),
        ("h.jsonl", '{"event":"retrieve","at":"2025-01-01","study":"1"}\n', r"h.jsonl:1: .*no time zone"),
        ("h.jsonl", '{"event":"dance","at":"2025-01-01T00:00Z","study":"1"}\n', r"h.jsonl:1: .*dance"),
        (
            "h.jsonl",
            '{"event":"arrival","at":"2025-01-01T00:00Z","study":"1","size":-1}\n',
            r"h.jsonl:1: .*negative",
        ),
        ("h.csv", "a,b\n", r"h.csv:1: .*must name the columns event, at, study, size"),
        ("h.csv", "event,at,study,size\nretrieve,2025-01-01T00:00Z\n", r"h.csv:2: .*expected 4 columns"),
        ("h.csv", "event,at,study,size\narrival,2025-01-01T00:00Z,1,many\n", r"h.csv:2: .*'many'"),
        ("h.txt", "", r"a history ends in .jsonl, .csv"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(HistoryError, match=says):
        list(read_history(tmp_path / name))


def test_a_file_that_breaks_off_or_is_not_there_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"event":"retrieve","at":"2025-01-01T00:00Z","study":"1"}\n' * 1000)
    (tmp_path / "h.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    for name in ("h.jsonl.gz", "none.jsonl"):
        with pytest.raises(HistoryError, match=rf"{name}: cannot be read"):
            list(read_history(tmp_path / name))


def test_events_out_of_order_are_refused_by_study_and_time() -> None:
    events = [arrival("1", BEGIN + DAY), arrival("2", BEGIN)]
    with pytest.raises(HistoryError, match=r"study 2: an event of 2025-03-03T00:00:00\+00:00 comes after"):
        list(until(events, BEGIN + 9 * DAY))


# scale


def test_three_times_as_large_has_three_times_the_studies_accesses_and_patients() -> None:
    events = in_order(
        [arrival("1", BEGIN, 5, patient_id="P"), access("1", BEGIN + HOUR), arrival("2", BEGIN, 3)]
    )
    made = list(scaled(events, 3))
    assert Counter(type(event) for event in made) == {Arrival: 6, Access: 3}
    assert {event.facts["patient_id"] for event in made if isinstance(event, Arrival)} == {
        "P", "P~1", "P~2", "2", "2~1", "2~2",
    }  # fmt: skip
    assert len({event.study for event in made}) == 6
    assert made == sorted(made, key=lambda event: event.at)
    report, _ = play("{policy: p, priority: 1, rules: [{name: c, copy to: tape}]}", made)
    assert (report.arrivals, report.retrieves) == (6, 3)


@given(st.floats(0.05, 4), st.integers(0, 5))
def test_a_patient_comes_whole_or_not_at_all_and_the_order_is_kept(factor: float, seed: int) -> None:
    events: list[Event] = []
    for number in range(60):
        at = BEGIN + number * HOUR
        events.append(arrival(str(number), at, patient_id=f"P{number % 20}"))
        events.append(access(str(number), at + timedelta(minutes=1)))
    made = list(scaled(events, factor, seed))
    assert made == sorted(made, key=lambda event: event.at)
    arrived = [event for event in made if isinstance(event, Arrival)]
    per_patient = Counter(event.facts["patient_id"] for event in arrived)
    assert set(per_patient.values()) <= {3}
    assert len(made) == 2 * len(arrived)
    assert abs(len(per_patient) - 20 * factor) <= 20


@pytest.mark.parametrize("factor", [0, -1, 1001, float("nan")])
def test_a_senseless_scale_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="out of range"):
        list(scaled([], factor))


# the hospital


def test_a_seed_makes_the_same_hospital_again_and_another_seed_another() -> None:
    small = Hospital(studies_a_day=3, stock_years=0.2)
    first, again = list(synthetic(small, *YEAR)), list(synthetic(small, *YEAR))
    assert first == again
    other = list(synthetic(Hospital(studies_a_day=3, stock_years=0.2, seed=2), *YEAR))
    assert other[:50] != first[:50]


def test_the_hospital_has_the_size_mix_and_rhythm_that_it_says() -> None:
    hospital = Hospital(studies_a_day=60, stock_years=1, growth_a_year=0)
    events = list(synthetic(hospital, *YEAR))
    assert events == sorted(events, key=lambda event: event.at)
    arrivals = [event for event in events if isinstance(event, Arrival)]
    assert len(arrivals) == pytest.approx(60 * 730, rel=0.02)
    shares = Counter(str(event.facts["modalities"]).strip("\\") for event in arrivals)
    for modality in MIX:
        assert shares[modality.code] / len(arrivals) == pytest.approx(modality.share, abs=0.01)
    by_hour = Counter(event.at.hour for event in arrivals)
    assert by_hour[10] > 3 * by_hour[3]
    by_day = Counter(event.at.weekday() for event in arrivals)
    assert by_day[0] > 1.5 * by_day[6] > 0
    assert not [e for e in arrivals if e.facts["modalities"] == "\\MG\\" and e.at.weekday() >= 5]
    patients = len({event.facts["patient_id"] for event in arrivals})
    assert patients / len(arrivals) == pytest.approx(0.4, abs=0.03)


def test_nothing_is_retrieved_before_it_arrived_and_old_studies_ever_more_seldom() -> None:
    arrived: dict[str, datetime] = {}
    ages: Counter[int] = Counter()
    for event in synthetic(Hospital(studies_a_day=40, stock_years=1), *YEAR):
        if isinstance(event, Arrival):
            arrived[event.study] = event.at
        else:
            assert event.at >= arrived[event.study]
            ages[(event.at - arrived[event.study]).days] += 1
    month, quarter, half = (sum(ages[day] for day in range(*span)) / (span[1] - span[0]) for span in (
        (10, 40), (60, 90), (150, 180),
    ))  # fmt: skip
    assert sum(ages[day] for day in range(2)) > 5 * month
    assert month > 1.5 * quarter > 1.5 * half > 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"studies_a_day": 0},
        {"stock_years": -1},
        {"returning": 1.5},
        {"age_exponent": 0},
        {"mix": ()},
        {"mix": (Modality("CT", 0, 1, 1, 1, 0, 0, 0, ("A",)),)},
    ],
)
def test_a_hospital_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="hospital"):
        Hospital(**wrong)  # type: ignore[arg-type]
