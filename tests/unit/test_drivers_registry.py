from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from drivers import registry
from drivers.base import Family
from drivers.errors import Permanent
from drivers.folder import FolderStore
from drivers.simulated.library import SimulatedLibrary


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, registry.GROUP)


def test_the_built_in_families_are_installed() -> None:
    assert {"folder", "simulated"} <= set(registry.names())
    for name in ("folder", "simulated"):
        assert registry.family(name).name == name


def test_an_unknown_driver_is_refused_with_a_suggestion() -> None:
    with pytest.raises(Permanent, match=r"unknown driver 'simulatd'; did you mean 'simulated'\?.*folder"):
        registry.family("simulatd")
    with pytest.raises(Permanent, match=r"unknown driver 'zzz'; installed: .*folder"):
        registry.family("zzz")


def test_names_are_listed_without_importing_anything() -> None:
    points = [point("b", "no.such.module:X"), point("a", "no.such.module:Y")]
    assert registry.names(points) == ("a", "b")


def test_a_family_that_cannot_be_imported_says_what_to_install() -> None:
    with pytest.raises(Permanent, match=r"pip install 'hsm-archive\[s3\]'"):
        registry.family("s3", [point("s3", "no_such_module_here:FAMILY")])
    with pytest.raises(Permanent, match="cannot be loaded"):
        registry.family("s3", [point("s3", "drivers.folder:NO_SUCH_NAME")])


def test_a_name_given_by_two_packages_is_refused_and_one_given_twice_is_not() -> None:
    twice = [point("folder", "drivers.folder:FAMILY")] * 2
    assert registry.family("folder", twice).name == "folder"
    with pytest.raises(Permanent, match=r"drivers\.folder:FAMILY and by other\.folder:FAMILY"):
        registry.family("folder", [twice[0], point("folder", "other.folder:FAMILY")])


def test_what_is_not_a_family_is_refused() -> None:
    with pytest.raises(Permanent, match="expected a Family"):
        registry.family("x", [point("x", "drivers.folder:FolderStore")])


def test_every_wrong_option_is_in_one_message() -> None:
    family = Family("f", frozenset({"path", "reserve_bytes"}), required=frozenset({"path"}))
    with pytest.raises(Permanent) as raised:
        registry.check_options(family, {"reserve_byte": 1, "colour": 2})
    message = str(raised.value)
    assert "'reserve_byte'; did you mean 'reserve_bytes'?" in message
    assert "'colour'" in message
    assert "'path' is missing" in message
    registry.check_options(family, {"path": "x"})


def test_stores_and_libraries_are_opened_by_name(tmp_path: Path) -> None:
    assert isinstance(registry.open_store("folder", {"path": str(tmp_path)}), FolderStore)
    library = registry.open_library("simulated", {"folder": str(tmp_path / "lib"), "time_factor": 0})
    assert isinstance(library, SimulatedLibrary)


def test_a_library_is_not_a_store_nor_the_other_way_round(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="libraries, not stores"):
        registry.open_store("simulated", {"folder": str(tmp_path)})
    with pytest.raises(Permanent, match="stores, not libraries"):
        registry.open_library("folder", {"path": str(tmp_path)})


def test_options_are_checked_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="did you mean 'folder'"):
        registry.open_library("simulated", {"foldr": str(tmp_path / "lib")})
    assert list(tmp_path.iterdir()) == []
