"""The configuration that is right: defaults, paths, units, the environment, and what a reload takes over."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from drivers import registry
from drivers.s3.settings import from_options
from drivers.sftp.settings import settings as sftp_settings
from hsm.config import (
    RIGHTS,
    Config,
    DicomConfig,
    differences_needing_restart,
    find_config,
    home_folder,
    load,
    packaged_etc,
)
from hsm.config.units import parse_duration, parse_size
from hsm.errors import ConfigError
from hsm.model import Layout, Tier

SMALLEST = """\
pools:
  - {name: online, tier: online, options: {path: data}}
"""


def write(folder: Path, text: str, name: str = "hsm.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def read(folder: Path, text: str, **environ: str) -> Config:
    return load(write(folder, text), {"HSM_HOME": str(folder / "home"), **environ})


def test_the_smallest_file_gets_every_default(tmp_path: Path) -> None:
    config = read(tmp_path, SMALLEST)
    home = tmp_path / "home"
    assert config.archive.ae_title == "HSM"
    assert config.catalog.url == f"sqlite:///{home}/catalog.db"
    assert (config.dicom.listen, config.dicom.port) == ("127.0.0.1", 11112)
    assert config.dicom.same_uid == "keep both"
    assert config.dicom.unknown_aes == RIGHTS
    assert config.dicom.retrieve.pending_seconds == 5.0
    assert config.staging.path == home / "staging"
    assert config.api.socket == home / "hsm.sock"
    assert config.policies == tmp_path / "policies"
    assert (config.home, config.source) == (home, tmp_path / "hsm.yaml")
    pool = config.pools[0]
    assert (pool.tier, pool.layout, pool.driver) == (Tier.ONLINE, Layout.FILES, "folder")
    assert pool.options == {"path": str(tmp_path / "data")}


def test_the_packaged_default_is_whole_and_runs_on_one_machine(tmp_path: Path) -> None:
    config = load(None, {"HSM_HOME": str(tmp_path)})
    assert config.source == packaged_etc() / "hsm.yaml"
    assert [(p.name, p.tier.value, p.layout.value, p.library) for p in config.pools] == [
        ("online", "online", "files", None),
        ("nearline", "nearline", "packages", None),
        ("tape", "offline", "packages", "library"),
    ]
    assert config.pool("nearline").options["path"] == f"{tmp_path}/pools/nearline"
    library = config.library("library")
    assert library.driver == "simulated"
    assert library.options["folder"] == f"{tmp_path}/library"
    assert library.options["capacity_bytes"] == 2 * 2**30
    assert (library.options["slots"], library.options["mail_slots"], library.options["drives"]) == (8, 2, 2)
    assert [(ae.ae_title, ae.host, ae.port) for ae in config.dicom.aes] == [
        ("MOVESCU", "127.0.0.1", 11113),
        ("STORESCP", "127.0.0.1", 11114),
    ]
    assert config.dicom.listen == "127.0.0.1", "the default never listens on the network"
    assert config.policies == packaged_etc() / "policies"


def test_the_packaged_default_names_every_setting_that_the_model_has() -> None:
    """So that the file can be read as the reference that it says it is."""
    text = (packaged_etc() / "hsm.yaml").read_text(encoding="utf-8")
    dicom = text.partition("\ndicom:")[2].partition("\npools:")[0]
    assert [name for name in DicomConfig.model_fields if f"{name}:" not in dicom] == []
    sections = [name for name in Config.model_fields if name not in ("home", "source")]
    assert [name for name in sections if f"\n{name}:" not in text] == []


def test_the_packaged_default_says_the_same_as_the_defaults_in_the_code(tmp_path: Path) -> None:
    packaged = load(None, {"HSM_HOME": str(tmp_path / "home")})
    bare = read(tmp_path, SMALLEST)
    assert packaged.dicom.model_copy(update={"aes": ()}) == bare.dicom
    for section in ("archive", "catalog", "seal", "schedule", "staging", "log", "api"):
        assert getattr(packaged, section) == getattr(bare, section), section


def test_the_production_sample_is_valid(tmp_path: Path) -> None:
    config = load(packaged_etc() / "hsm.production.yaml", {"HSM_HOME": str(tmp_path)})
    assert config.catalog.url.startswith("postgresql+psycopg2://")
    assert config.dicom.listen == "0.0.0.0"
    assert config.dicom.unknown_aes == ("echo",), "a production archive lets strangers do nothing but echo"
    assert {p.tier for p in config.pools} == {Tier.ONLINE, Tier.NEARLINE, Tier.OFFLINE}


def test_the_tape_sample_is_valid_and_its_libraries_can_be_opened_without_the_devices(tmp_path: Path) -> None:
    config = load(packaged_etc() / "hsm.tape.yaml", {"HSM_HOME": str(tmp_path)})
    assert [(library.name, library.driver) for library in config.libraries] == [
        ("robot", "mtx"),
        ("desk", "manual"),
    ]
    for library in config.libraries:
        registry.open_library(library.driver, library.options)


def test_the_s3_sample_is_valid_and_so_are_its_options(tmp_path: Path) -> None:
    config = load(packaged_etc() / "hsm.s3.yaml", {"HSM_HOME": str(tmp_path)})
    buckets = {pool.name: from_options(pool.options) for pool in config.pools if pool.driver == "s3"}
    assert {name: settings.cold for name, settings in buckets.items()} == {"cloud": False, "glacier": True}
    assert buckets["cloud"].quota_bytes == 40 * 10**12
    for pool in config.pools:
        registry.check_options(registry.family(pool.driver), pool.options)


def test_the_remote_sample_is_valid_and_so_are_its_options(tmp_path: Path) -> None:
    config = load(packaged_etc() / "hsm.remote.yaml", {"HSM_HOME": str(tmp_path)})
    pools = {pool.name: pool for pool in config.pools}
    assert {name: pool.driver for name, pool in pools.items()} == {
        "online": "folder",
        "nearline": "nas",
        "bunker": "sftp",
    }
    for pool in pools.values():
        registry.check_options(registry.family(pool.driver), pool.options)
    found = sftp_settings(pools["bunker"].options, {})
    assert (found.host, found.key_file) == ("backup.hospital.example", tmp_path / "ssh" / "id_ed25519")
    registry.open_store("nas", pools["nearline"].options)


def test_the_optical_sample_is_valid_and_its_libraries_can_be_opened_without_the_devices(
    tmp_path: Path,
) -> None:
    config = load(packaged_etc() / "hsm.optical.yaml", {"HSM_HOME": str(tmp_path)})
    assert {library.driver for library in config.libraries} == {"optical"}
    for library in config.libraries:
        registry.open_library(library.driver, library.options)


def test_relative_paths_are_relative_to_the_file_and_not_to_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "elsewhere").mkdir()
    path = write(
        tmp_path / "etc",
        SMALLEST
        + "staging: {path: stage}\npolicies: ../rules\napi: {socket: run/s}\n"
        + "catalog: {url: 'sqlite:///c/catalog.db'}\n",
    )
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = load(path, {"HSM_HOME": "home"})
    assert config.home == tmp_path / "elsewhere" / "home", (
        "HSM_HOME is the shell's, so relative to where it stands"
    )
    assert config.staging.path == tmp_path / "etc" / "stage"
    assert config.policies.resolve() == tmp_path / "rules"
    assert config.api.socket == tmp_path / "etc" / "run" / "s"
    assert config.catalog.url == f"sqlite:///{tmp_path}/etc/c/catalog.db"
    assert config.pools[0].options["path"] == str(tmp_path / "etc" / "data")


def test_an_absolute_sqlite_url_stays_as_it_is(tmp_path: Path) -> None:
    assert (
        read(tmp_path, SMALLEST + "catalog: {url: 'sqlite:////a/b.db'}\n").catalog.url == "sqlite:////a/b.db"
    )


def test_home_is_expanded_inside_lists_and_driver_options_too(tmp_path: Path) -> None:
    text = (
        SMALLEST
        + "libraries:\n  - {name: l, driver: simulated, options: {folder: f,\n"
        + "     cartridges: ['${HSM_HOME}/a', 'x${HSM_HOME}']}}\n"
    )
    options = read(tmp_path, text).libraries[0].options
    assert options["cartridges"] == [f"{tmp_path}/home/a", f"x{tmp_path}/home"]


def test_the_environment_overrides_where_dicom_listens(tmp_path: Path) -> None:
    config = read(tmp_path, SMALLEST, HSM_DICOM_PORT="0", HSM_DICOM_LISTEN="::1")
    assert (config.dicom.listen, config.dicom.port) == ("::1", 0)
    config = read(tmp_path, SMALLEST + "dicom: {port: 104}\n", HSM_DICOM_PORT="", HSM_DICOM_LISTEN="")
    assert config.dicom.port == 104


def test_files_are_searched_in_the_documented_order(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    named, by_variable = write(tmp_path, SMALLEST, "named.yaml"), write(tmp_path, SMALLEST, "variable.yaml")
    environ = {"HSM_HOME": str(home), "HSM_CONFIG": str(by_variable)}
    assert find_config(named, environ) == named
    assert find_config(None, environ) == by_variable
    assert find_config(None, {"HSM_HOME": str(home)}) == packaged_etc() / "hsm.yaml"
    at_home = write(home, SMALLEST)
    assert find_config(None, {"HSM_HOME": str(home)}) == at_home
    assert find_config(None, environ) == by_variable


@pytest.mark.parametrize("how", ["--config", "HSM_CONFIG"])
def test_a_file_that_was_named_and_is_missing_is_refused_and_not_replaced_by_the_default(
    tmp_path: Path, how: str
) -> None:
    path = tmp_path / "gone.yaml"
    with pytest.raises(ConfigError, match=rf"gone\.yaml: no such configuration file \(named by {how}\)"):
        find_config(path if how == "--config" else None, {"HSM_CONFIG": str(path)})


def test_home_defaults_to_var_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert home_folder({}) == home_folder({"HSM_HOME": ""}) == tmp_path / "var"


def test_the_configuration_is_frozen(tmp_path: Path) -> None:
    config = read(tmp_path, SMALLEST)
    with pytest.raises(ValidationError, match="frozen"):
        config.dicom.port = 1  # type: ignore[misc]


def test_the_catalog_url_is_not_shown(tmp_path: Path) -> None:
    old = read(tmp_path, SMALLEST + "catalog: {url: 'postgresql://hsm@db/hsm?passfile=s3cret'}\n")
    new = read(tmp_path, SMALLEST + "catalog: {url: 'postgresql://hsm@db/hsm?passfile=0ther'}\n")
    shown = repr(old) + str(differences_needing_restart(old, new))
    assert "s3cret" not in shown
    assert "0ther" not in shown
    assert differences_needing_restart(old, new) == ["catalog.url: changed"]


def test_a_configuration_built_in_code_is_checked_as_a_whole_too(tmp_path: Path) -> None:
    pool = {"name": "a", "tier": "nearline", "options": {"path": "x"}}
    with pytest.raises(ValidationError, match="tier: online"):
        Config.model_validate({"home": tmp_path, "source": tmp_path / "c.yaml", "pools": [pool]})


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        (4096, 4096),
        ("7 B", 7),
        ("20 GiB", 20 * 2**30),
        ("20GiB", 20 * 2**30),
        ("1.5 TB", 1_500_000_000_000),
        ("1 kB", 1000),
        ("2 KiB", 2048),
        ("1 PiB", 2**50),
        ("0.1 B", 0),
    ],
)
def test_sizes_are_read(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "20", "GiB", "-1 GiB", "1,5 GB", "20 gib", "9 EiB", True, None, 1.5, -1, 2**63]
)
def test_what_is_not_a_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (5, 5.0),
        (0.25, 0.25),
        ("10 min", 600.0),
        ("1.5 h", 5400.0),
        ("2 days", 172800.0),
        ("250ms", 0.25),
        ("1 s", 1),
    ],
)
def test_durations_are_read(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "min", "1 month", "-1 s", True, None, -0.1, float("inf"), float("nan")]
)
def test_what_is_not_a_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


def test_a_reload_takes_over_policies_peers_intervals_and_the_log_level(tmp_path: Path) -> None:
    old = read(tmp_path, SMALLEST)
    new = read(
        tmp_path,
        SMALLEST
        + """
policies: elsewhere
seal: {quiet_seconds: 1}
schedule: {seal_seconds: 1, policies_seconds: 1}
log: {level: debug}
dicom:
  aes: [{ae_title: WS1, host: ws1, port: 104}]
  unknown_aes: [echo]
  check_called_ae: false
  max_associations: 7
  same_uid: reject
  retrieve: {pending_seconds: 1}
""",
    )
    assert old != new
    assert differences_needing_restart(old, new) == []


def test_a_reload_says_what_needs_a_restart(tmp_path: Path) -> None:
    old = read(tmp_path, SMALLEST)
    new = read(
        tmp_path,
        """
archive: {ae_title: OTHER}
dicom: {port: 104, listen: 0.0.0.0, aes: [{ae_title: WS1, host: ws1, port: 104}]}
log: {format: json}
pools:
  - {name: online, tier: online, options: {path: data}, reserve_bytes: 1 GiB}
  - {name: far, tier: offline, library: robot}
libraries:
  - {name: robot, driver: simulated, options: {folder: lib}}
""",
    )
    assert differences_needing_restart(old, new) == [
        "archive.ae_title: HSM -> OTHER",
        "dicom.listen: 127.0.0.1 -> 0.0.0.0",
        "dicom.port: 11112 -> 104",
        "pools: far added, online changed",
        "libraries: robot added",
        "log.format: auto -> json",
    ]


def test_every_setting_is_either_live_or_needs_a_restart(tmp_path: Path) -> None:
    """A name in the list of live settings that the model does not have would be a promise not kept."""
    from hsm.config.differences import FIXED, LIVE
    from hsm.config.load import _model_of

    for name in (*LIVE, *FIXED):
        model: type[BaseModel] | None = Config
        for key in name.split("."):
            assert model is not None and key in model.model_fields, name
            model = _model_of(model.model_fields[key].annotation)
