"""Hardware and prices as YAML: what is read, and what is said of mistakes."""

from __future__ import annotations

from datetime import time
from pathlib import Path

import pytest

from policies import PolicyErrors
from policies.whatif.prices import PoolPrice
from policies.whatif.site import Kind, Library, Operator, Pool, Site
from policies.whatif.sitefile import read_prices, read_site
from policies.whatif.tape import LTO8, LTO9

ETC = Path(__file__).parents[2] / "etc" / "simulate"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(text, "utf-8")
    return path


def test_every_key_of_a_site_is_read(tmp_path: Path) -> None:
    found = read_site(
        written(
            tmp_path,
            """
pools:
  - {name: fast, capacity: 8 TB, read: 900 MB/s, write: 700 MB/s, latency: 0.005 s, site: main}
  - {name: cloud, kind: s3, tier: nearline, capacity: 1 PB, latency: 12 h}
  - {name: tapes, library: robot, tier: nearline}
  - {name: discs, library: jukebox, kind: optical}
libraries:
  - {name: robot, drive: LTO-9, drives: 3, slots: 40, robot: 12 s, cartridges: 90}
  - {name: jukebox, drive: LTO-8, volume: 2.5 TB, rate: 300 MB/s, load: 20 s, unload: 25 s}
operator:
  walk: 20 min
  handling: 45 s
  cartridges a trip: 4
  between: 06:30 and 22:00
  weekdays: sat-mon, wed
  time zone: Asia/Shanghai
staging: 2 TiB
quiet: 30 min
""",
        )
    )
    fast, cloud, tapes, discs = found.pools
    assert fast == Pool("fast", Kind.DISK, "online", "main", 8 * 10**12, 9e8, 7e8, 0.005)
    assert (cloud.kind, cloud.cold) == (Kind.OBJECT, True)
    assert (tapes.kind, tapes.tier, tapes.library) == (Kind.TAPE, "nearline", "robot")
    assert (discs.kind, discs.tier) == (Kind.OPTICAL, "offline")
    assert found.library("robot") == Library("robot", LTO9, 3, 40, 12.0, 90)
    drive = found.library("jukebox").drive
    assert (drive.volume_bytes, drive.bytes_per_second, drive.load_seconds, drive.unload_seconds) == (
        25 * 10**11, 3e8, 20, 25,
    )  # fmt: skip
    assert drive.wraps == LTO8.wraps
    assert found.operator == Operator(
        1200, 45, 4, time(6, 30), time(22), frozenset({5, 6, 0, 2}), "Asia/Shanghai"
    )
    assert (found.staging_bytes, found.quiet_seconds) == (2 * 2**40, 1800)


def test_the_files_that_come_with_the_software_are_good() -> None:
    assert len(read_site(ETC / "site.yaml").pools) == 4
    assert len(read_site(ETC / "demo" / "site.yaml").pools) == 3
    prices = read_prices(ETC / "prices.yaml")
    assert prices.of_pool("online", "disk").tb_month > prices.of_pool("nearline", "disk").tb_month > 0
    assert prices.of_pool("anything", "none") == PoolPrice()
    assert prices.cartridge["tape"] > 0 < prices.drive_year["tape"]


ONE = "- {name: online, capacity: 1 TB}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"pools: [{ONE[2:]}]\nspeed: 3", r"site.yaml:2:1: error: 'speed' is not a key of a site"),
        (
            "pools:\n  - {name: online, capacity: 1}",
            r"site.yaml:2:30: error: expected a size such as 8 TB; found '1'",
        ),
        (
            "pools:\n  - {name: online, capacity: 1 s}",
            r":2:30: error: s is a length of time; expected a size",
        ),
        ("pools:\n  - {name: online, capacity: 1 TB, read: 5 MB}", r"expected a rate such as 400 MB/s"),
        (
            "pools:\n  - {name: online, capacity: 1 TB, latency: 5}",
            r"expected a length of time such as 15 min",
        ),
        (
            "pools:\n  - {name: online, capacity: 1 TB, kind: dsik}",
            r"'dsik' is no kind of pool. Did you mean 'disk'",
        ),
        (
            "pools:\n  - {name: online, capacity: 1 TB, tier: hot}",
            r"tier is 'hot'; expected one of online, nearline",
        ),
        ("pools:\n  - {capacity: 1 TB}", r":2:5: error: a pool needs a name"),
        ("pools:\n  - {name: online}", r"its capacity must be above 0"),
        (f"pools:\n  {ONE}\n  - {{name: t, library: l}}", r"there is no library 'l'"),
        (f"pools:\n  {ONE}\n  {ONE}", r"two pools have one name"),
        ("libraries: []", r"there must be a disk pool of tier online"),
        (f"pools:\n  {ONE}\nlibraries: [{{name: l, drive: LTO-12}}]", r"'LTO-12' is no drive that is known"),
        (f"pools:\n  {ONE}\nlibraries: [{{name: l, drives: two}}]", r"expected a whole number such as 2"),
        (
            f"pools:\n  {ONE}\nlibraries: [{{name: l, drives: 9, slots: 3}}]",
            r"at least as many slots as drives",
        ),
        (f"pools:\n  {ONE}\noperator: {{weekdays: funday}}", r"expected days such as mon-fri"),
        (f"pools:\n  {ONE}\noperator: {{between: 7 to 9}}", r"expected times such as 07:00 and 18:00"),
        (f"pools:\n  {ONE}\noperator: {{time zone: Mars/Base}}", r"'Mars/Base' is no time zone"),
        ("pools: {a: b}", r"'pools' must be a list"),
        ("a: [", r"the bracket that opens here is not closed"),
        ("", r"expected a site in one YAML document; found 0"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(PolicyErrors, match=says):
        read_site(written(tmp_path, text))


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = "pools:\n  - {name: online, capacity: much}\n  - {name: b, kind: c}\nstaging: none\n"
    with pytest.raises(PolicyErrors) as caught:
        read_site(written(tmp_path, text))
    assert [error.line for error in caught.value.errors] == [2, 3, 4]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kinds: {disk: {TB: 3}}", r"'TB' is not a key of the prices of disk"),
        ("kinds: {flash: {}}", r"'flash' is not a key of 'kinds'"),
        ("mount: cheap", r"expected an amount such as 9.50"),
        ("operator hour: -3", r"expected an amount"),
    ],
)
def test_a_mistake_in_prices_is_told(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(PolicyErrors, match=says):
        read_prices(written(tmp_path, text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyErrors, match=r"none.yaml: error: cannot be read"):
        read_site(tmp_path / "none.yaml")


def test_a_site_finds_its_parts_by_name() -> None:
    site = Site((Pool("online", capacity=1),))
    assert site.pool("online") is site.arrival_pool
    with pytest.raises(KeyError):
        site.pool("other")
    with pytest.raises(KeyError):
        site.library("other")
