"""Broken configuration files: each error is told with its line, its place and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from hsm.config import InvalidConfig, Problem, load
from hsm.errors import ConfigError

POOLS = """\
pools:
  - name: online
    tier: online
    options: {path: data}
"""
"""Four lines, so that what is appended begins on line 5."""


def problems_of(folder: Path, text: str, **environ: str) -> tuple[Problem, ...]:
    path = folder / "hsm.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidConfig) as caught:
        load(path, {"HSM_HOME": str(folder / "home"), **environ})
    for problem in caught.value.problems:
        assert str(problem) in str(caught.value)
        if problem.line is not None:
            assert str(problem).startswith(f"{path}:{problem.line}: ")
    return caught.value.problems


BROKEN = [
    # (text, line, place, what the message says)
    ("", 1, "pools", "is missing; expected a list of pools"),
    ("pools: []\n", 1, "pools", "expected a pool with tier: online"),
    (
        "log: {}\npools:\n  - {name: a, tier: nearline, options: {path: a}}\n",
        2,
        "pools",
        "a pool with tier: online",
    ),
    (
        "pools: nearline\n",
        1,
        "pools",
        "expected a list of pools, one of them with tier: online; found 'nearline'",
    ),
    ("pools:\n  - online\n", 2, "pools[0]", "expected a mapping with name, tier, layout"),
    ("- a\n- b\n", 1, "", "expected a mapping of settings; found a list"),
    ("hello\n", 1, "", "expected a mapping of settings; found 'hello'"),
    (POOLS + "dicom:\n  port: [1\n", 7, "", "not YAML: expected ',' or ']'"),
    (POOLS + "dicom:\n\tport: 1\n", 6, "", "not YAML: found character '\\t'"),
    (POOLS + "archive: {ae_title: *nobody}\n", 5, "", "not YAML: found undefined alias"),
    (POOLS + "archive: {ae_title: !vault x}\n", 5, "archive.ae_title", "cannot be read"),
    (POOLS + "archive: &a {ae_title: *a}\n", 5, "archive.ae_title", "an alias inside what it names"),
    (POOLS + "---\nother: document\n", 5, "", "not YAML: but found another document"),
    (POOLS + "3: x\n", 5, "", "the key 3 is not text"),
    (POOLS + "arhive:\n  ae_title: A\n", 5, "arhive", "unknown key; did you mean archive?"),
    (POOLS + "zzz: 1\n", 5, "zzz", "unknown key; expected one of archive, catalog, dicom"),
    (POOLS + "home: /x\n", 5, "home", "unknown key"),
    (POOLS + "dicom:\n  lisen: 0.0.0.0\n", 6, "dicom.lisen", "unknown key; did you mean listen?"),
    (POOLS + "dicom:\n  port: 1\n\n  port: 2\n", 8, "dicom.port", "given twice; the first is on line 6"),
    (
        POOLS + "dicom:\n  port: 65536\n",
        6,
        "dicom.port",
        "expected a TCP port from 0 (any free one) to 65535; found 65536",
    ),
    (POOLS + "dicom:\n  port: -1\n", 6, "dicom.port", "expected a TCP port"),
    (POOLS + "dicom:\n  port: '104'\n", 6, "dicom.port", "found '104'"),
    (POOLS + "dicom:\n  port: 104.5\n", 6, "dicom.port", "found 104.5"),
    (POOLS + "dicom:\n  port: true\n", 6, "dicom.port", "found true"),
    (POOLS + "dicom:\n  port:\n", 6, "dicom.port", "found nothing"),
    (POOLS + "dicom:\n", 5, "dicom", "expected a mapping of DICOM settings; found nothing"),
    (POOLS + "dicom:\n  listen: 10.0.0.256\n", 6, "dicom.listen", "expected a host name or an IP address"),
    (
        POOLS + "dicom:\n  listen: a b\n",
        6,
        "dicom.listen",
        "expected a host name or an IP address; found 'a b'",
    ),
    (
        POOLS + "dicom:\n  check_called_ae: no\n",
        6,
        "dicom.check_called_ae",
        "(in YAML 1.2 no is text); found 'no'",
    ),
    (POOLS + "dicom:\n  check_called_ae: 1\n", 6, "dicom.check_called_ae", "expected true or false; found 1"),
    (
        POOLS + "dicom:\n  same_uid: keep\n",
        6,
        "dicom.same_uid",
        '"reject", "keep first" or "keep both"; found \'keep\'',
    ),
    (
        POOLS + "dicom:\n  unknown_aes: [echo,\n    stor]\n",
        7,
        "dicom.unknown_aes[1]",
        "echo, store, find, get, move",
    ),
    (POOLS + "dicom:\n  unknown_aes: echo\n", 6, "dicom.unknown_aes", "expected a list of rights"),
    (
        POOLS + "dicom:\n  max_pdu_bytes: 2 KiB\n",
        6,
        "dicom.max_pdu_bytes",
        "a size from 4 KiB to 1 MiB; found '2 KiB'",
    ),
    (POOLS + "dicom:\n  max_dataset_bytes: 4 Gib\n", 6, "dicom.max_dataset_bytes", "expected a size"),
    (
        POOLS + "dicom:\n  dimse_timeout_seconds: 0\n",
        6,
        "dicom.dimse_timeout_seconds",
        "a duration above 0; found 0",
    ),
    (
        POOLS + "dicom:\n  retrieve:\n    pending_seconds: soon\n",
        7,
        "dicom.retrieve.pending_seconds",
        "found 'soon'",
    ),
    (
        POOLS + "dicom:\n  aes:\n    - {ae_title: A, host: h}\n",
        7,
        "dicom.aes[0].port",
        "is missing; expected a TCP port",
    ),
    (
        POOLS + "dicom:\n  aes:\n    - {ae_title: A, host: h, port: 0}\n",
        7,
        "dicom.aes[0].port",
        "from 1 to 65535",
    ),
    (
        POOLS
        + "dicom:\n  aes:\n    - {ae_title: A, host: h, port: 1}\n    - {ae_title: A, host: i, port: 2}\n",
        8,
        "dicom.aes[1].ae_title",
        "another AE title 'A' comes before it",
    ),
    (POOLS + "archive:\n  ae_title: SEVENTEEN_LETTERS\n", 6, "archive.ae_title", "1 to 16 characters; "),
    (POOLS + "archive:\n  ae_title: ''\n", 6, "archive.ae_title", "1 to 16 characters"),
    (POOLS + "archive:\n  ae_title: 'A\\B'\n", 6, "archive.ae_title", "no backslash"),
    (POOLS + "archive:\n  ae_title: ' A'\n", 6, "archive.ae_title", "no space at the ends"),
    (POOLS + "archive:\n  ae_title: ÄRZTE\n", 6, "archive.ae_title", "plain ASCII"),
    (
        POOLS + "archive:\n  ae_title: 4711\n",
        6,
        "archive.ae_title",
        "in quotes if it is a number; found 4711",
    ),
    (POOLS + "catalog:\n  url: mysql://x/y\n", 6, "catalog.url", "found the scheme 'mysql'"),
    (POOLS + "catalog:\n  url: 'sqlite://'\n", 6, "catalog.url", "found no file in it"),
    (POOLS + "catalog:\n  url: catalog.db\n", 6, "catalog.url", "is not a URL"),
    (
        POOLS + "log: {level: verbose}\n",
        5,
        "log.level",
        "expected debug, info, warning or error; found 'verbose'",
    ),
    (POOLS + "seal: {quiet_seconds: -1}\n", 5, "seal.quiet_seconds", "from 0 to 100 years; found -1"),
    (POOLS + "schedule: {seal_seconds: 0}\n", 5, "schedule.seal_seconds", "expected a duration above 0"),
    (
        POOLS + "staging: {size_max_bytes: 1 kB}\n",
        5,
        "staging.size_max_bytes",
        "expected a size of at least 1 MiB",
    ),
    (POOLS + "staging: {path: [a]}\n", 5, "staging.path", "expected a path as text"),
    (
        POOLS + "staging: {path: '${HOME}/x'}\n",
        5,
        "staging.path",
        "${HOME} is not known; only ${HSM_HOME} is expanded",
    ),
    (POOLS + "policies: 7\n", 5, "policies", "expected a path as text; found 7"),
    (POOLS + f"api: {{socket: /{'s' * 120}}}\n", 5, "api.socket", "at most 107 bytes"),
    (POOLS + "    reserve_bytes: a lot\n", 5, "pools[0].reserve_bytes", "expected a size"),
    (POOLS + "    layout: file\n", 5, "pools[0].layout", "expected files or packages; found 'file'"),
    (POOLS + "    options2: {}\n", 5, "pools[0].options2", "did you mean options?"),
    (
        POOLS + "  - {name: online, tier: nearline, options: {path: b}}\n",
        5,
        "pools[1].name",
        "another pool 'online'",
    ),
    (
        POOLS + "  - {name: b, tier: nearline, options: {path: data}}\n",
        5,
        "pools[1].options.path",
        "in that of pool online",
    ),
    (
        POOLS + "  - {name: b, tier: nearline, options: {path: data/b}}\n",
        5,
        "pools[1].options.path",
        "lies in",
    ),
    (POOLS + "  - {name: b, tier: nearline, options: {path: .}}\n", 5, "pools[1].options.path", "holds"),
    (POOLS + "  - {name: b, tier: nearline}\n", 5, "pools[1].options", "folder needs the option path"),
    (POOLS + "  - {name: b, tier: nearline, options: {path: 3}}\n", 5, "pools[1].options.path", "found 3"),
    (POOLS + "  - {name: ../b, tier: nearline, options: {path: b}}\n", 5, "pools[1].name", "expected a name"),
    (
        POOLS + "  - {name: b, tier: tape, options: {path: b}}\n",
        5,
        "pools[1].tier",
        "online, nearline or offline; found 'tape'",
    ),
    (POOLS + "  - {name: b, tier: offline, options: {path: b}}\n", 5, "pools[1].tier", "needs library"),
    (
        POOLS + "  - name: b\n    tier: offline\n    library: robot\n",
        7,
        "pools[1].library",
        "no library is named 'robot'",
    ),
    (POOLS + "libraries:\n  - {name: r}\n", 6, "libraries[0].driver", "is missing; expected a driver's name"),
    (
        POOLS + "libraries:\n  - {name: r, driver: simulated}\n",
        6,
        "libraries[0].options",
        "needs the option folder",
    ),
    (
        POOLS + "libraries:\n  - name: r\n    driver: simulated\n    options:\n      folder: f\n"
        "      capacity_bytes: 2 gigs\n",
        10,
        "libraries[0].options.capacity_bytes",
        "expected a size",
    ),
    (
        POOLS + "libraries:\n  - {name: r, driver: simulatd}\n",
        6,
        "libraries[0].driver",
        "did you mean 'simulated'?",
    ),
    (
        POOLS + "libraries:\n  - {name: r, driver: folder, options: {path: /x}}\n",
        6,
        "libraries[0].driver",
        "gives stores, not libraries",
    ),
    (
        POOLS + "libraries:\n  - name: r\n    driver: optical\n"
        "    options: {spool: /s, drives: [/dev/sr0], file_system: udf}\n",
        8,
        "libraries[0].options",
        "set append: false",
    ),
    (
        POOLS + "  - name: c\n    tier: nearline\n    driver: s3\n    reserve_bytes: 1 GiB\n"
        "    options: {bucket: abc}\n",
        9,
        "pools[1].options",
        "needs a quota_bytes",
    ),
    (
        POOLS + "  - name: c\n    tier: nearline\n    driver: s3\n    options: {bucket: abc, threads: 99}\n",
        8,
        "pools[1].options",
        "expected 1 to 64",
    ),
]


@pytest.mark.parametrize(
    ("text", "line", "place", "message"),
    BROKEN,
    ids=[f"{case[2] or 'file'}-{n}" for n, case in enumerate(BROKEN)],
)
def test_a_broken_file_is_refused_with_one_problem_at_its_line(
    tmp_path: Path, text: str, line: int, place: str, message: str
) -> None:
    problems = problems_of(tmp_path, text)
    assert [(problem.line, problem.place) for problem in problems] == [(line, place)], problems
    assert message in problems[0].message


LIBRARY = "libraries:\n  - {name: r, driver: simulated, options: {folder: lib}}\n"


@pytest.mark.parametrize(
    ("pool", "place", "message"),
    [
        ("{name: t, tier: online, library: r}", "tier", "a pool of a library cannot be online"),
        ("{name: t, tier: offline, library: r, layout: files}", "layout", "has layout: packages"),
        ("{name: t, tier: offline, library: r, reserve_bytes: 1 GiB}", "reserve_bytes", "keeps no reserve"),
        ("{name: t, tier: offline, library: r, driver: s3}", "driver", "not both"),
        ("{name: t, tier: offline, library: r, options: {path: x}}", "options", "not both"),
    ],
)
def test_a_pool_of_a_library_has_no_driver_of_its_own(
    tmp_path: Path, pool: str, place: str, message: str
) -> None:
    problems = problems_of(tmp_path, f"{POOLS}  - {pool}\n{LIBRARY}")
    found = [problem for problem in problems if problem.place == f"pools[1].{place}"]
    assert [problem.line for problem in found] == [5], problems
    assert message in found[0].message


def test_what_could_never_be_recalled_is_not_received(tmp_path: Path) -> None:
    tape = f"{POOLS}  - {{name: t, tier: offline, library: r}}\n{LIBRARY}staging: {{size_max_bytes: 1 GiB}}\n"
    (problem,) = problems_of(tmp_path, f"{tape}dicom:\n  max_dataset_bytes: 1 GiB\n")
    assert (problem.line, problem.place) == (10, "dicom.max_dataset_bytes")
    assert "or a larger staging area" in problem.message


def test_nothing_is_said_of_it_so_it_follows_from_the_staging_area(tmp_path: Path) -> None:
    tape = f"{POOLS}  - {{name: t, tier: offline, library: r}}\n{LIBRARY}staging: {{size_max_bytes: 1 GiB}}\n"
    most = received(tmp_path, tape)
    assert 0.96 * 2**30 < most < 2**30
    assert received(tmp_path, f"{tape}dicom:\n  max_dataset_bytes: {most}\n") == most
    disks = f"{POOLS}staging: {{size_max_bytes: 1 GiB}}\n"
    assert received(tmp_path, f"{disks}dicom:\n  max_dataset_bytes: 5 GiB\n") == 5 << 30, "disks give all"
    assert received(tmp_path, disks) == 4 << 30


def received(folder: Path, text: str) -> int:
    (folder / "hsm.yaml").write_text(text)
    return load(folder / "hsm.yaml", {"HSM_HOME": str(folder)}).dicom.max_dataset_bytes


def test_every_error_of_a_file_is_in_one_report_in_the_order_of_the_lines(tmp_path: Path) -> None:
    problems = problems_of(
        tmp_path,
        """\
archive:
  ae_title: A_TITLE_THAT_IS_TOO_LONG
dicom:
  lisen: 1.2.3.4
  port: 70000
  port: 11
  aes:
    - {ae_title: WS, host: ws, prt: 3}
pools:
  - name: a
    tier: nearlin
    options: {path: "${HSM_HOM}/x"}
  - name: a
    tier: offline
    library: none
log: {level: loud}
""",
    )
    assert [(problem.line, problem.place) for problem in problems] == [
        (2, "archive.ae_title"),
        (4, "dicom.lisen"),
        (5, "dicom.port"),
        (6, "dicom.port"),
        (8, "dicom.aes[0].port"),
        (8, "dicom.aes[0].prt"),
        (11, "pools[0].tier"),
        (12, "pools[0].options.path"),
        (13, "pools[1].name"),
        (15, "pools[1].library"),
        (16, "log.level"),
    ]


def test_an_error_in_the_environment_names_the_variable_and_no_line(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, POOLS, HSM_DICOM_PORT="dicom")
    assert str(problem) == (
        "environment variable HSM_DICOM_PORT: dicom.port: "
        "expected a TCP port from 0 (any free one) to 65535; found 'dicom'"
    )


def test_a_password_in_a_broken_url_is_not_repeated_in_the_report(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, POOLS + "catalog: {url: 'mysql://hsm:s3cret@db/hsm'}\n")
    assert "s3cret" not in str(problem)
    (problem,) = problems_of(tmp_path, POOLS + "catalog: {url: 'postgresql://hsm:s3cret@db:port/hsm'}\n")
    assert "s3cret" not in str(problem)


@pytest.mark.parametrize("url", ["postgresql://hsm:s3cret@db/hsm", "postgresql://hsm@db/hsm?password=s3cret"])
def test_a_password_does_not_stand_in_the_configuration(tmp_path: Path, url: str) -> None:
    (problem,) = problems_of(tmp_path, POOLS + f"catalog: {{url: '{url}'}}\n")
    assert "passfile" in str(problem)
    assert "s3cret" not in str(problem)


def test_bytes_that_are_not_text_are_refused_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "hsm.yaml"
    path.write_bytes(POOLS.encode() + b"archive: {ae_title: \xff}\n")
    with pytest.raises(InvalidConfig, match=r"hsm\.yaml:5: not UTF-8 text"):
        load(path, {})


def test_a_folder_or_an_endless_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration file"):
        load(tmp_path, {})
    (tmp_path / "big.yaml").write_bytes(b"#" * (2 << 20))
    with pytest.raises(ConfigError, match="larger than 1048576 bytes"):
        load(tmp_path / "big.yaml", {})


def test_aliases_that_multiply_are_cut_off(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 9):
        bomb += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n"
    problems = problems_of(tmp_path, bomb)
    assert any("too large" in problem.message for problem in problems)


def test_deep_nesting_is_cut_off(tmp_path: Path) -> None:
    problems = problems_of(tmp_path, POOLS + "archive: " + "[" * 500 + "]" * 500 + "\n")
    assert any(
        "nested too deeply" in problem.message or "not YAML" in problem.message for problem in problems
    )


SITES = """pools:
  - {name: online, tier: online, options: {path: a}, site: main}
  - {name: vault, tier: nearline, options: {path: b}, site: SITE}
"""


def test_pools_say_where_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "hsm.yaml"
    path.write_text(SITES.replace("SITE", "bunker"))
    assert [pool.site for pool in load(path, {}).pools] == ["main", "bunker"]
    path.write_text(POOLS)
    assert {pool.site for pool in load(path, {}).pools} == {""}


@pytest.mark.parametrize(
    ("site", "said"),
    [
        ("online", "'online' is a pool already"),
        ("nearline", "'nearline' is a tier already"),
        ("tape", "'tape' is a kind already"),
        ("'2 halls'", "expected a name"),
        ("7", "expected a name"),
    ],
)
def test_a_site_is_a_name_that_stands_for_nothing_else(tmp_path: Path, site: str, said: str) -> None:
    (problem,) = problems_of(tmp_path, SITES.replace("SITE", site))
    assert (problem.line, problem.place) == (3, "pools[1].site")
    assert said in problem.message


def test_a_history_is_kept_for_a_day_at_least(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, POOLS + "history: {detail_seconds: 1 h}\n")
    assert problem.place == "history.detail_seconds"
    assert "at least 1 day" in problem.message
