"""A made-up archive of any size: the same rows for the same shape, spread as real ones are."""

from __future__ import annotations

import enum
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from hsm.catalog import placements, words
from hsm.catalog.columns import pack_uid

OWN_KEYS = 1_000_000
"""Where keys begin of what the catalog itself adds to: beyond those that it will give out."""
FIRST_DAY = date(2010, 1, 1)
NAMESAKES = 20
"""Patients who share a family name, whatever the archive's size."""
STUDIES_PER_PATIENT = 2
STUDIES_PER_BATCH = 2000
INSTANCES_PER_BATCH = 8000

MODALITIES = ("CT", "CT", "CT", "MR", "MR", "CR", "CR", "US", "XA", "MG")
SYLLABLES = [head + tail for head in "bdfghklmnprstvwz" for tail in "aeiou"]
KANJI = "山川田中村木林森石原島崎松竹梅上下大小高"
KANA = "あいうえおかきくけこさしすせそたちつてと"

Row = tuple[str | int | bytes | None, ...]


class Uids(enum.StrEnum):
    """How long SOP Instance UIDs are."""

    MIXED = "mixed"
    """As four families of devices make them: 44 to 61 characters."""
    LONGEST = "longest"
    """64 characters, in no order: the worst case."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How much of what."""

    studies: int
    series: int = 2
    """Of a study."""
    instances: int = 2
    """Of a series."""
    copies: int = 2
    """Of a package; a study is one package."""
    studies_per_day: int = 200
    uids: Uids = Uids.MIXED
    sealed: bool = True
    """Without it instances lie in no package yet."""

    @property
    def patients(self) -> int:
        return max(1, self.studies // STUDIES_PER_PATIENT)

    @property
    def total_instances(self) -> int:
        return self.studies * self.series * self.instances

    @property
    def families(self) -> int:
        return max(1, self.patients // NAMESAKES)


COLUMNS = {
    "name": ("pk", "uid"),
    "placement": ("pk", "pattern"),
    "placement_pool": ("placement_pk", "package", "pool", "verified"),
    "word_set": ("pk", "digest"),
    "word": ("set_pk", "text"),
    "volume": (
        *("pk", "name", "uuid", "pool", "state", "removable", "capacity", "used"),
        *("place", "shelf", "error", "created_at"),
    ),
    "patient": (
        *("pk", "key", "patient_id", "issuer", "name", "name_alphabetic", "name_ideographic"),
        *("name_phonetic", "birth_date", "sex"),
    ),
    "study": (
        *("pk", "patient_pk", "uid", "date", "time", "study_id", "accession", "description"),
        *("referring_physician", "referring_alphabetic", "institution", "charset", "modalities"),
        *("n_series", "n_instances", "n_bytes", "source_ae", "first_received", "last_received"),
        *("last_accessed", "unsealed", "packages", "placement_pk", "body_parts", "stations", "sop_classes"),
    ),
    "series": (
        *("pk", "study_pk", "uid", "modality", "number", "description", "body_part", "date", "time"),
        *("station", "n_instances"),
    ),
    "package": ("pk", "study_pk", "number", "key", "size", "digest", "n_instances", "sealed_at"),
    "copy": ("pk", "package_pk", "volume_pk", "state", "locator", "written_at", "verified_at"),
    "instance": (
        *("pk", "size", "offset", "series_pk", "package_pk", "number", "version", "class_pk"),
        *("syntax_pk", "digest", "uid"),
    ),
}
"""The columns of the rows that :func:`batches` makes; the others are left to be NULL."""


def family(shape: Shape, patient: int) -> int:
    """The number of the family that a patient belongs to; neighbours are of different ones."""
    return (patient * 7919) % shape.families


def syllables(number: int, letters: list[str] | str, count: int) -> str:
    """A number as ``count`` syllables, numbers that are near each other looking different."""
    base = len(letters)
    number = (number * 48_271 + 11) % base**count
    return "".join(letters[number // base**place % base] for place in range(count))


def patient_name(shape: Shape, patient: int) -> tuple[str, str | None, str | None]:
    """Alphabetic group, and for one family in eight the ideographic and the phonetic group."""
    number = family(shape, patient)
    given = syllables(patient, SYLLABLES, 2)
    alphabetic = f"{syllables(number, SYLLABLES, 4)}^{given}"
    if number % 8:
        return alphabetic, None, None
    return alphabetic, f"{syllables(number, KANJI, 4)}^太郎", f"{syllables(number, KANA, 4)}^たろう"


def study_uid(study: int) -> str:
    return f"1.2.840.113619.2.55.3.{_mixed(study) % 10**10}.{study}.1"


def series_uid(study: int, series: int) -> str:
    return f"{study_uid(study)}.{series + 1}"


def patient_of(shape: Shape, study: int) -> int:
    """A patient's studies lie apart."""
    return (study * 3_571) % shape.patients


def day_of(shape: Shape, study: int) -> str:
    return f"{FIRST_DAY + timedelta(days=study // shape.studies_per_day):%Y%m%d}"


def accession(study: int) -> str:
    return f"A{_mixed(study) % 10**6:06}{study}"


def modality_of(study: int) -> str:
    return MODALITIES[study * 7 % len(MODALITIES)]


def _mixed(number: int) -> int:
    return (number + 1) * 0x9E3779B97F4A7C15 % 2**64


def instance_uids(shape: Shape, study: int, series: int) -> Iterator[str]:
    """Of one series. Devices count within a series; where a series begins is anywhere."""
    mixed = _mixed(study * 64 + series)
    if shape.uids is Uids.LONGEST:
        numbers = random.Random(mixed)
        for _ in range(shape.instances):
            yield f"1.2.{numbers.randrange(10**59, 10**60)}"
        return
    match study % 4:
        case 0:
            stem = f"1.2.840.113619.2.55.3.{mixed % 10**10}.{mixed % 997}.{mixed % 10**10}."
            yield from (f"{stem}{number + 1}" for number in range(shape.instances))
        case 1:
            stem = f"1.3.12.2.1107.5.1.4.{mixed % 10**5:05}.30000{mixed % 10**19:019}"
            yield from (f"{stem}{number:05}" for number in range(shape.instances))
        case 2:
            stem = f"1.2.392.200036.9116.2.6.1.48.{mixed % 10**10:010}.{mixed // 7 % 10**10:010}."
            yield from (f"{stem}{number:06}" for number in range(shape.instances))
        case _:
            numbers = random.Random(mixed)
            yield from (f"2.25.{numbers.randrange(10**38, 10**39)}" for _ in range(shape.instances))


def batches(shape: Shape) -> Iterator[tuple[str, list[Row]]]:
    """Table by table and some thousand studies at a time; a row's references come before it."""
    yield "name", [(1, "1.2.840.10008.5.1.4.1.1.2"), (2, "1.2.840.10008.1.2.1")]
    yield (
        "volume",
        [
            (
                pk,
                pool,
                f"00000000-0000-4000-8000-{pk:012}",
                pool,
                "active",
                False,
                2**50,
                0,
                "mounted",
                "",
                "",
                AT,
            )
            for pk, pool in enumerate(POOLS, 1)
        ],
    )
    held = sorted(POOLS[: shape.copies])
    yield "placement", [(OWN_KEYS, placements.pattern_of([dict.fromkeys(held, 1)]))]
    yield "placement_pool", [(OWN_KEYS, 0, pool, 1) for pool in held]
    yield "word_set", [(pk, words.digest_of([word])) for pk, word in enumerate(WORDS, OWN_KEYS)]
    yield "word", list(enumerate(WORDS, OWN_KEYS))
    for start in range(0, shape.patients, STUDIES_PER_BATCH):
        numbers = range(start, min(start + STUDIES_PER_BATCH, shape.patients))
        yield "patient", [_patient(shape, number) for number in numbers]
    step = max(1, INSTANCES_PER_BATCH // (shape.series * shape.instances))
    for start in range(0, shape.studies, step):
        numbers = range(start, min(start + step, shape.studies))
        yield "study", [_study(shape, number) for number in numbers]
        yield "series", [_series(shape, number, each) for number in numbers for each in range(shape.series)]
        yield "package", [_package(shape, number) for number in numbers]
        yield "copy", [_copy(shape, number, each) for number in numbers for each in range(shape.copies)]
        yield "instance", [row for number in numbers for row in _instances(shape, number)]


AT = "2026-01-01 00:00:00.000000"
POOLS = ("online", "nearline", "vault")
WORDS = ("CHEST", "STATION1", "1.2.840.10008.5.1.4.1.1.2")
"""What every study says of itself: body part, station, SOP class."""
SIZE = 525_312
"""Bytes of an instance."""


def _patient(shape: Shape, number: int) -> Row:
    alphabetic, ideographic, phonetic = patient_name(shape, number)
    name = "=".join(group for group in (alphabetic.title(), ideographic, phonetic) if group)
    birth = f"{1930 + number % 80}{1 + number % 12:02}{1 + number % 28:02}"
    key = f"P{number:08}"
    return (
        *(number + 1, f"{key}\\", key, "", name, alphabetic, ideographic, phonetic),
        *(birth, "FM"[number % 2]),
    )


def _study(shape: Shape, number: int) -> Row:
    count = shape.series * shape.instances
    physician = syllables(number % 300, SYLLABLES, 3)
    return (
        *(number + 1, patient_of(shape, number) + 1, study_uid(number), day_of(shape, number), "101500"),
        *(str(number % 100_000), accession(number), "Thorax^Routine"),
        *(f"{physician.title()}^A", f"{physician}^a", "General Hospital", "ISO_IR 192"),
        *(f"\\{modality_of(number)}\\", shape.series, count, count * SIZE, "CT1"),
        *(AT, AT, AT, 0 if shape.sealed else count, 1),
        *(OWN_KEYS, OWN_KEYS, OWN_KEYS + 1, OWN_KEYS + 2),
    )


def _series(shape: Shape, study: int, series: int) -> Row:
    return (
        *(study * shape.series + series + 1, study + 1, series_uid(study, series), modality_of(study)),
        *(series + 1, "Thorax 1.0 B70f", "CHEST", day_of(shape, study), "101530", "STATION1"),
        shape.instances,
    )


def _package(shape: Shape, study: int) -> Row:
    count = shape.series * shape.instances
    digest = hashlib.sha256(study.to_bytes(8)).digest()
    size = count * (SIZE + 512)
    return (study + 1, study + 1, 1, f"{study_uid(study)}.p0001.tar", size, digest, count, AT)


def _copy(shape: Shape, study: int, copy: int) -> Row:
    locator = f"studies/{study % 256:02x}/{study_uid(study)}"
    pk = study * shape.copies + copy + 1
    return (pk, study + 1, copy % len(POOLS) + 1, "verified", locator, AT, AT)


def _instances(shape: Shape, study: int) -> Iterator[Row]:
    noise = random.Random(study)
    count = shape.series * shape.instances
    package = study + 1 if shape.sealed else None
    for series in range(shape.series):
        series_pk = study * shape.series + series + 1
        for number, uid in enumerate(instance_uids(shape, study, series)):
            at = series * shape.instances + number
            offset = 4096 + at * (SIZE + 512) if shape.sealed else None
            yield (
                *(study * count + at + 1, SIZE, offset, series_pk, package, number + 1, 0, 1, 2),
                *(noise.randbytes(32), pack_uid(uid)),
            )
