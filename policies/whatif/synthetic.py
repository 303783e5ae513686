"""A hospital that never was: years of arrivals and retrieves, realistic in shape, the same for a seed.

What it assumes, and docs/simulate.md repeats:

- Studies arrive as a Poisson process whose rate follows the hour (quiet night, peaks at 10 and 14) and the
  day of the week; radiographs and CT go on at night and at the weekend, screening does not.
- Sizes are log-normal, each modality with its median and spread.
- Three of five studies are of a patient who was there before, rather of late than long ago.
- A study is read within hours, by a referring physician within days, and then ever more seldom: the time to
  a later retrieve follows a power law (Lomax), its tail as ``age_exponent`` says.
- When a study is read, up to three priors of the patient, of the same body part first, are opened with it.

None of it is measured at a certain hospital. Replay your own history where you have one.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from random import Random

from policies.whatif.history import Access, Arrival, Event, FactValue

MB = 10**6


@dataclass(frozen=True, slots=True)
class Modality:
    """One kind of study."""

    code: str
    share: float
    """Of all studies."""
    median_bytes: float
    spread: float
    """Standard deviation of the logarithm of the size."""
    image_bytes: float
    """Of one instance."""
    round_the_clock: float
    """Share of the working day's rate that nights and weekends keep."""
    later_reads: float
    """Mean number of retrieves after the first days."""
    priors: float
    """Chance that priors are opened with it."""
    body_parts: tuple[str, ...]


MIX = (
    Modality("DX", 0.40, 18 * MB, 0.5, 9 * MB, 0.45, 0.6, 0.45, ("CHEST", "HAND", "KNEE", "PELVIS", "SPINE")),
    Modality("CT", 0.21, 280 * MB, 0.8, 0.53 * MB, 0.50, 1.6, 0.80, ("CHEST", "ABDOMEN", "HEAD", "SPINE")),
    Modality("MR", 0.12, 220 * MB, 0.7, 0.35 * MB, 0.05, 1.8, 0.85, ("HEAD", "SPINE", "KNEE", "ABDOMEN")),
    Modality("US", 0.14, 60 * MB, 0.8, 1.0 * MB, 0.15, 0.5, 0.35, ("ABDOMEN", "NECK", "PELVIS")),
    Modality("MG", 0.06, 160 * MB, 0.6, 30 * MB, 0.0, 1.2, 0.95, ("BREAST",)),
    Modality("XA", 0.04, 450 * MB, 0.8, 15 * MB, 0.25, 1.4, 0.60, ("HEART", "LEG", "HEAD")),
    Modality("NM", 0.02, 25 * MB, 0.7, 1.0 * MB, 0.0, 1.0, 0.70, ("SKELETON", "HEART", "THYROID")),
    Modality("PT", 0.01, 160 * MB, 0.5, 0.1 * MB, 0.0, 2.5, 0.95, ("WHOLEBODY",)),
)
_HOURS = (2, 2, 1, 1, 1, 2, 4, 12, 30, 38, 40, 36, 26, 32, 38, 34, 26, 16, 8, 6, 5, 4, 3, 3)
_WEEK = (1.06, 1.04, 1.02, 1.0, 0.88, 0.0, 0.0)
"""Relative rates of Monday to Sunday, of what does not go on round the clock."""


@dataclass(frozen=True, slots=True)
class Hospital:
    """What the generator is asked for."""

    studies_a_day: float = 100.0
    """Mean over the whole week."""
    stock_years: float = 3.0
    """How long it has been archiving when the history that is of interest begins."""
    mix: tuple[Modality, ...] = MIX
    returning: float = 0.6
    """Chance that a study is of a patient who was there before."""
    age_exponent: float = 0.9
    """Of the power law of later retrieves: larger forgets faster."""
    age_scale_days: float = 3.0
    growth_a_year: float = 0.05
    """Of the number of studies."""
    institution: str = "General Hospital"
    seed: int = 1

    def __post_init__(self) -> None:
        if self.studies_a_day <= 0 or self.stock_years < 0 or not 0 <= self.returning <= 1:
            raise ValueError(
                "hospital: needs studies a day, years of stock, and a share of returning patients"
            )
        if self.age_exponent <= 0 or self.age_scale_days <= 0 or self.growth_a_year <= -1:
            raise ValueError("hospital: exponent and scale of ageing must be above 0, growth above -1")
        if not self.mix or any(modality.share <= 0 for modality in self.mix):
            raise ValueError("hospital: every modality needs a share above 0")


def synthetic(hospital: Hospital, begin: datetime, end: datetime) -> Iterator[Event]:
    """Events in order of time, from ``stock_years`` before ``begin`` up to ``end``."""
    yield from _Generator(hospital, begin, end).events()


@dataclass(slots=True)
class _Made:
    """One study, as far as later ones need it."""

    uid: str
    modality: Modality
    body_part: str


@dataclass(slots=True)
class _Patient:
    identity: str
    born: date
    studies: list[_Made] = field(default_factory=list)


class _Generator:
    def __init__(self, hospital: Hospital, begin: datetime, end: datetime) -> None:
        self._hospital = hospital
        self._random = Random(hospital.seed)
        self._first = (begin - timedelta(days=365 * hospital.stock_years)).astimezone(UTC)
        self._begin, self._end = begin, end
        self._waiting: list[tuple[datetime, int, Event]] = []
        self._count = self._pushed = 0
        self._visits: list[_Patient] = []
        total = sum(modality.share for modality in hospital.mix)
        self._weights = [modality.share / total for modality in hospital.mix]

    def events(self) -> Iterator[Event]:
        hour = self._first.replace(minute=0, second=0, microsecond=0)
        while hour < self._end:
            for second, modality in sorted(self._hour(hour), key=lambda arrival: arrival[0]):
                self._arrive(hour + timedelta(seconds=second), modality)
            hour += timedelta(hours=1)
            while self._waiting and self._waiting[0][0] < hour:
                event = heapq.heappop(self._waiting)[2]
                if self._first <= event.at < self._end:
                    yield event

    def _hour(self, hour: datetime) -> Iterator[tuple[float, Modality]]:
        """Seconds of the hour at which studies arrive, modality by modality."""
        for modality, share in zip(self._hospital.mix, self._weights, strict=True):
            for _ in range(self._poisson(self._rate(hour, modality) * share)):
                yield 3600 * self._random.random(), modality

    def _rate(self, hour: datetime, modality: Modality) -> float:
        """Studies of all modalities in the hour, if all were as ``modality``; its share comes on top."""
        years = (hour - self._begin).days / 365
        level = self._hospital.studies_a_day * math.pow(1 + self._hospital.growth_a_year, years)
        calm = modality.round_the_clock
        by_day = (1 - calm) * _WEEK[hour.weekday()] + calm
        by_hour = (1 - calm) * _HOURS[hour.hour] / sum(_HOURS) + calm / 24
        return level * by_day * by_hour / ((1 - calm) * 5 / 7 + calm)

    def _arrive(self, at: datetime, modality: Modality) -> None:
        random, patient = self._random, self._patient()
        similar = [study for study in patient.studies if study.modality is modality]
        part = (
            similar[-1].body_part if similar and random.random() < 0.7 else random.choice(modality.body_parts)
        )
        self._count += 1
        uid = f"2.25.{self._hospital.seed}.{self._count}"
        size = int(random.lognormvariate(math.log(modality.median_bytes), modality.spread))
        self._push(Arrival(at, uid, size, self._facts(at, modality, part, patient, size)))
        read = at + timedelta(seconds=random.lognormvariate(math.log(2.5 * 3600), 1.0))
        self._reads(uid, modality, at, read)
        if patient.studies and random.random() < modality.priors:
            self._open_priors(patient, part, read)
        patient.studies.append(_Made(uid, modality, part))
        self._visits.append(patient)

    def _reads(self, uid: str, modality: Modality, at: datetime, read: datetime) -> None:
        random, hospital = self._random, self._hospital
        self._push(Access(read, uid))
        if random.random() < 0.5:  # the referring physician, or the ward round
            self._push(Access(read + timedelta(days=random.expovariate(1 / 2.0)), uid))
        for _ in range(self._poisson(modality.later_reads)):
            days = hospital.age_scale_days * ((1 - random.random()) ** (-1 / hospital.age_exponent) - 1)
            if days < 36_500:
                self._push(Access(at + timedelta(days=days, hours=1), uid))

    def _open_priors(self, patient: _Patient, part: str, read: datetime) -> None:
        newest_first = list(reversed(patient.studies))
        ranked = sorted(newest_first, key=lambda study: study.body_part != part)  # stable
        for number, prior in enumerate(ranked[: self._random.randint(1, 3)], start=1):
            self._push(Access(read + timedelta(seconds=20 * number), prior.uid))

    def _patient(self) -> _Patient:
        random = self._random
        if self._visits and random.random() < self._hospital.returning:
            back = int(len(self._visits) * random.random() ** 3)
            return self._visits[len(self._visits) - 1 - back]
        born = date(self._first.year, 1, 1) - timedelta(days=int(365 * min(99, random.gammavariate(6, 9))))
        return _Patient(f"P{self._count + 1:07}", born)

    def _facts(
        self, at: datetime, modality: Modality, part: str, patient: _Patient, size: int
    ) -> dict[str, FactValue]:
        return {
            "modalities": f"\\{modality.code}\\",
            "study_date": at.strftime("%Y%m%d"),
            "instances": max(1, round(size / modality.image_bytes)),
            "institution": self._hospital.institution,
            "source_ae": f"{modality.code}{1 + self._count % 2}",
            "accession": f"A{self._count:08}",
            "description": f"{modality.code} {part.title()}",
            "patient_id": patient.identity,
            "body_parts": (part,),
            "birth_date": patient.born.strftime("%Y%m%d"),
        }

    def _push(self, event: Event) -> None:
        if event.at < self._end:
            self._pushed += 1  # a tie is broken by it, and events are never compared
            heapq.heappush(self._waiting, (event.at, self._pushed, event))

    def _poisson(self, mean: float) -> int:
        limit, count, product = math.exp(-mean), 0, self._random.random()
        while product > limit:
            count += 1
            product *= self._random.random()
        return count
