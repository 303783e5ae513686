"""The table of the Basic Application Level Confidentiality Profile, against a copy that others made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

import hsm.export.anonymise

EDITION = "2026c"
GROUPS = {"D_TAGS", "Z_TAGS", "X_TAGS", "U_TAGS", "Z_D_TAGS", "X_Z_TAGS", "X_D_TAGS", "X_Z_D_TAGS"}


def ours() -> dict[int, str]:
    text = Path(hsm.export.anonymise.__file__).with_name("basic_profile.txt").read_text("ascii")
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    pairs = [(int(tag, 16), action) for action, *tags in lines for tag in tags]
    assert len(dict(pairs)) == len(pairs), "each tag once"
    return dict(pairs)


def test_every_action_is_that_of_the_standard_s_table_as_another_project_has_it() -> None:
    database = pytest.importorskip(f"dicomanonymizer.dicom_anonymization_databases.dicomfields_{EDITION}")
    theirs: dict[int, str] = {}
    wide: set[tuple[int, ...]] = set()
    for name in sorted(GROUPS | {"X_Z_U_STAR_TAGS"}):
        action = name.removesuffix("_TAGS").replace("U_STAR", "U*").replace("_", "/")
        for tag in getattr(database, name):
            if len(tag) == 2:
                theirs[tag[0] << 16 | tag[1]] = action
            else:
                wide.add(tag[:2])
    assert len(theirs) > 600
    assert ours() == theirs
    # With a mask: curves, overlay comments, overlay data. They are not in the table but in the code.
    assert wide == {(0x5000, 0), (0x6000, 0x4000), (0x6000, 0x3000)}
