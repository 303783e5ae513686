"""Where things lie: every key is safe, and two things never lie in one place."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.base import check_key
from hsm import layout
from hsm.errors import BadInput
from hsm.package import member_name

uids = (
    st.lists(st.integers(0, 10**9).map(str), min_size=1, max_size=12)
    .map(".".join)
    .filter(lambda u: len(u) <= 64)
)
LONGEST = "1." + "2" * 62


@given(uids, uids, uids, st.integers(0, 32767), st.integers(1, 10**6))
def test_every_place_is_a_valid_key(study: str, series: str, sop: str, version: int, number: int) -> None:
    key = layout.package_key(study, number)
    for place in (
        key,
        layout.study_dir(study),
        layout.instance_path(study, series, sop, version),
        layout.manifest_path(study, key),
        layout.package_locator(key),
    ):
        assert check_key(place) == place


def test_the_longest_uids_still_fit() -> None:
    assert len(layout.instance_path(LONGEST, LONGEST, LONGEST, 32767)) <= 255


def test_the_places_of_a_known_study_never_change() -> None:
    """What is on disk was put there by these functions: they cannot change without a migration."""
    assert layout.study_dir("1.2.3") == "studies/c4/1.2.3"
    assert (
        layout.instance_path("1.2.3", "1.2.3.4", "1.2.3.4.5", 0) == "studies/c4/1.2.3/1.2.3.4/1.2.3.4.5.dcm"
    )
    assert layout.instance_path("1.2.3", "1.2.3.4", "1.2.3.4.5", 2).endswith("/1.2.3.4.5.v2.dcm")
    key = layout.package_key("1.2.3", 1)
    assert key == "1.2.3.p0001.tar"
    assert layout.manifest_path("1.2.3", key) == "studies/c4/1.2.3/1.2.3.p0001.tar.manifest.json"
    assert layout.package_locator(key) == "1f/1.2.3.p0001.tar"
    assert layout.package_key("1.2.3", 12345) == "1.2.3.p12345.tar"


def test_an_instance_lies_under_its_study_by_its_name_in_the_package() -> None:
    path = layout.instance_path("1.2.3", "1.2.3.4", "1.2.3.4.5", 2)
    assert path == f"{layout.study_dir('1.2.3')}/{member_name('1.2.3.4', '1.2.3.4.5', 2)}"


def test_different_instances_never_share_a_path() -> None:
    values = ("1", "1.1", "1.1.1", "11")
    everything = list(itertools.product(values, values, values, (0, 1, 11)))
    assert len({layout.instance_path(*each) for each in everything}) == len(everything)


@pytest.mark.parametrize(
    "evil", ["", "..", "../../etc", "1.2/3", "1..2", ".1", "1.", "1.2\n", "1" * 65, "1.2 ", "١.٢"]
)
def test_what_is_no_uid_never_becomes_a_path(evil: str) -> None:
    calls: list[Callable[[], str]] = [
        lambda: layout.study_dir(evil),
        lambda: layout.instance_path(evil, "1", "1", 0),
        lambda: layout.instance_path("1", evil, "1", 0),
        lambda: layout.instance_path("1", "1", evil, 0),
        lambda: layout.package_key(evil, 1),
        lambda: layout.manifest_path(evil, f"{evil}.p0001.tar"),
    ]
    for call in calls:
        with pytest.raises(BadInput):
            call()


def test_numbers_and_keys_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        layout.instance_path("1", "1", "1", -1)
    with pytest.raises(ValueError, match="expected 1 or more"):
        layout.package_key("1", 0)
    with pytest.raises(ValueError, match="not one of study"):
        layout.manifest_path("1.2", "1.3.p0001.tar")
    with pytest.raises(ValueError, match="slash"):
        layout.manifest_path("1.2", "1.2.p/../../x")
    for key in ("../x", "a/b", "", ".."):
        with pytest.raises(ValueError, match=r"slash|unsafe|characters"):
            layout.package_locator(key)


def test_a_million_studies_spread_over_the_folders() -> None:
    folders = [layout.study_dir(f"1.2.840.{n}").split("/")[1] for n in range(20_000)]
    counts = [folders.count(folder) for folder in set(folders)]
    assert len(counts) == 256
    assert max(counts) < 3 * min(counts)
