"""What only the whole configuration can tell: defaults that depend on it, paths, and contradictions.

Works on plain values and tolerates every shape, so that its findings can stand in one report
beside the errors of single fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from drivers import registry
from drivers.errors import DriverError
from hsm.config.audit import audit_errors, audit_files
from hsm.config.document import Place
from hsm.config.doorrules import door_errors, tls_errors, tls_sections
from hsm.config.driverrules import Finding, library_errors, store_errors
from hsm.config.operators import operator_errors, operator_files
from hsm.config.stagingrules import dataset_bytes, staging_errors
from hsm.config.units import parse_duration, parse_size
from hsm.model import Tier

HOME = "${HSM_HOME}"
_VARIABLE = re.compile(r"\$\{[^}]*\}?")

PATH_OPTIONS: Mapping[str, str] = {"folder": "path", "nas": "path", "raid": "path", "simulated": "folder"}
"""The built-in drivers' option that is a path: resolved like every path of the file."""

KINDS = ("disk", "tape", "optical", "s3", "nas", "sftp")
"""Words that policies know for what volumes are."""


def resolved(data: Mapping[str, Any]) -> dict[str, Any]:
    """``data`` with ``${HSM_HOME}`` expanded, paths absolute and defaults that need the home filled in.

    Leaves alone whatever has not the expected shape: validation reports it.
    """
    home, source = data.get("home"), data.get("source")
    if not isinstance(home, str | Path) or not isinstance(source, str | Path):
        return dict(data)
    home, folder = Path(home).absolute(), Path(source).absolute().parent
    out: dict[str, Any] = _expanded(dict(data), str(home))
    out["home"], out["source"] = home, Path(source).absolute()
    defaults = {
        "catalog": ("url", f"sqlite:///{home}/catalog.db"),
        "staging": ("path", str(home / "staging")),
        "api": ("socket", str(home / "hsm.sock")),
    }
    for section, (key, value) in defaults.items():
        if isinstance(out.setdefault(section, {}), dict):
            out[section].setdefault(key, value)
    if isinstance(out.setdefault("dicom", {}), dict):
        out["dicom"].setdefault("max_dataset_bytes", dataset_bytes(out))
    out.setdefault("policies", "policies")
    _make_absolute(out, "policies", folder)
    for section, key in (("staging", "path"), ("api", "socket")):
        _make_absolute(out[section], key, folder)
    for _, section in tls_sections(out):
        for key in ("certificate", "key", "ca"):
            _make_absolute(section, key, folder)
    tcp = out["api"].get("tcp") if isinstance(out["api"], dict) else None
    if isinstance(tcp, dict):
        tcp.setdefault("tokens_file", str(home / "tokens.json"))
        for key in ("certificate", "key", "client_ca", "tokens_file"):
            _make_absolute(tcp, key, folder)
    for options, key in (*operator_files(out), *audit_files(out)):
        _make_absolute(options, key, folder)
    for kind in ("pools", "libraries"):
        for _, entry in _entries(out, kind):
            driver = _driver(kind, entry)
            for options in _option_sets(entry):
                if driver in PATH_OPTIONS:
                    _make_absolute(options, PATH_OPTIONS[driver], folder)
                _convert_units(options)
            if kind == "pools" and entry.get("tier") == "online":
                entry.setdefault("layout", "files")
    url = out["catalog"].get("url") if isinstance(out["catalog"], dict) else None
    if isinstance(url, str) and (match := re.fullmatch(r"sqlite:///([^/:?][^?]*)(\?.*)?", url)):
        out["catalog"]["url"] = f"sqlite:///{folder / match[1]}{match[2] or ''}"
    return out


def cross_errors(data: Any) -> list[Finding]:
    """Every contradiction between settings, and every unusable value of a driver's options."""
    if not isinstance(data, Mapping):
        return []
    findings: list[Finding] = []
    findings += _unknown_variables(data, ())
    findings += _twice(data, ("pools",), "name", "pool")
    findings += _twice(data, ("libraries",), "name", "library")
    findings += _twice(data, ("dicom", "aes"), "ae_title", "AE title")
    findings += _twice(data, ("dicom", "users"), "name", "user")
    findings += _twice(data, ("dicom", "listeners"), "name", "listener")
    findings += _clock_errors(data)
    findings += _twice(data, ("operator", "channels"), "name", "channel")
    findings += operator_errors(data)
    findings += door_errors(data)
    findings += tls_errors(data)
    findings += audit_errors(data)
    findings += staging_errors(data)
    findings += _user_errors(data)
    libraries = [entry.get("name") for _, entry in _entries(data, "libraries")]
    for place, pool in _entries(data, "pools"):
        findings += _pool_errors(place, pool, libraries)
    for place, library in _entries(data, "libraries"):
        findings += _option_errors(place, "libraries", library)
        findings += library_errors(place, library, PATH_OPTIONS)
    findings += _sites(data)
    findings += _backup_errors(data)
    findings += _volume_names(data)
    findings += _shared_folders(data)
    pools = data.get("pools")
    if isinstance(pools, list):
        tiers = [entry.get("tier") for _, entry in _entries(data, "pools")]
        # A pool that says nothing usable may be the online one that is looked for.
        if "online" not in tiers and len(tiers) == len(pools) and all(tier in list(Tier) for tier in tiers):
            findings.append((("pools",), "expected a pool with tier: online; what arrives is stored there"))
    return findings


def _backup_errors(data: Mapping[str, Any]) -> Iterator[Finding]:
    """The catalog's backups go into a pool that there is."""
    section = data.get("catalog")
    backup = section.get("backup") if isinstance(section, Mapping) else None
    wanted = backup.get("pool") if isinstance(backup, Mapping) else None
    names = [entry.get("name") for _, entry in _entries(data, "pools")]
    if isinstance(wanted, str) and wanted not in names:
        yield ("catalog", "backup", "pool"), f"there is no pool {wanted!r}"


def _clock_errors(data: Mapping[str, Any]) -> Iterator[Finding]:
    """A clock that goes faster is for simulations: time-outs of hardware and of servers are true seconds."""
    clock = data.get("clock")
    if not isinstance(clock, Mapping) or clock.get("speed", 1) == 1:
        return
    if clock.get("since") is None:
        yield ("clock", "since"), "a clock with a speed needs since: from when on it goes faster"
    for kind in ("pools", "libraries"):
        for place, entry in _entries(data, kind):
            driver = _driver(kind, entry)
            if driver is not None and not _any_clock(driver):
                yield (
                    (*place, "driver"),
                    f"{driver} waits for hardware or a network, which no clock.speed makes faster; a daemon "
                    "with one uses the drivers folder and simulated",
                )


def _any_clock(driver: str) -> bool:
    try:
        return registry.family(driver).any_clock
    except DriverError:  # reported where the driver is looked at
        return True


def _user_errors(data: Mapping[str, Any]) -> Iterator[Finding]:
    dicom = data.get("dicom")
    if not isinstance(dicom, Mapping):
        return
    known = [user.get("name") for _, user in _entries(dicom, "users")]
    sections: list[tuple[Place, Mapping[str, Any]]] = [(("dicom",), dicom)]
    sections += [(("dicom", *place), peer) for place, peer in _entries(dicom, "aes")]
    for place, section in sections:
        if section.get("user_identity") in ("optional", "required") and not known:
            yield (*place, "user_identity"), "nobody could come: dicom.users is empty"
    for place, peer in _entries(dicom, "aes"):
        names = peer.get("users")
        for number, name in enumerate(names if isinstance(names, list) else []):
            if isinstance(name, str) and name not in known:
                yield ("dicom", *place, "users", number), f"dicom.users has no {name!r}"


def _pool_errors(place: Place, pool: Mapping[str, Any], libraries: list[Any]) -> Iterator[Finding]:
    library, tier = pool.get("library"), pool.get("tier")
    if library is None:
        if tier == "offline":
            yield (
                (*place, "tier"),
                "an offline pool needs library: the name of the library that mounts its volumes",
            )
        for at, _, options in _volumes(place, pool):
            yield from _option_errors(at, "pools", {**pool, "options": options})
        sets = [(at, options) for at, _, options in _volumes(place, pool)]
        yield from store_errors(place, pool, sets, PATH_OPTIONS)
        return
    if isinstance(library, str) and library not in libraries:
        known = ", ".join(str(name) for name in libraries) or "none is configured"
        yield (*place, "library"), f"no library is named {library!r} (known: {known})"
    if tier == "online":
        yield (*place, "tier"), "a pool of a library cannot be online; expected nearline or offline"
    if pool.get("layout") == "files":
        yield (*place, "layout"), "a pool of a library has layout: packages"
    if pool.get("reserve_bytes"):
        yield (*place, "reserve_bytes"), "a pool of a library keeps no reserve; leave reserve_bytes out"
    if pool.get("driver", "folder") != "folder" or pool.get("options") or pool.get("volumes"):
        given = ("driver",) if pool.get("driver", "folder") != "folder" else ("options", "volumes")
        wrong = next(name for name in given if pool.get(name))
        yield (*place, wrong), "a pool has either driver and options or library, not both"


def _sites(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Policies write pools, kinds, tiers and sites in one place: ``copies(vault)``."""
    pools = {entry.get("name") for _, entry in _entries(data, "pools")}
    for place, entry in _entries(data, "pools"):
        site = entry.get("site")
        if not isinstance(site, str) or not site:
            continue
        taken = (("a pool", pools), ("a tier", set(Tier)), ("a kind", set(KINDS)))
        other = next((what for what, names in taken if site in names), "")
        if other:
            yield (*place, "site"), f"{site!r} is {other} already; expected another name for the site"


def _option_sets(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The mappings of options that an entry has: its own, and those of its volumes."""
    own = [entry.get("options")]
    volumes = entry.get("volumes")
    own += (
        [each.get("options") for each in volumes if isinstance(each, Mapping)]
        if isinstance(volumes, list)
        else []
    )
    return [each for each in own if isinstance(each, dict)]


def _volumes(place: Place, entry: Mapping[str, Any]) -> list[tuple[Place, Any, Mapping[str, Any]]]:
    """Place, name and whole options of each volume of a pool that needs no drive."""
    options = entry.get("options", {})
    options = options if isinstance(options, Mapping) else {}
    found: list[tuple[Place, Any, Mapping[str, Any]]] = []
    for at, volume in _entries(entry, "volumes"):
        own = volume.get("options", {})
        if isinstance(own, Mapping):
            found.append(((*place, *at), volume.get("name"), {**options, **own}))
    return found or [(place, entry.get("name"), options)]


def _volume_names(data: Mapping[str, Any]) -> Iterator[Finding]:
    """A volume's name is the only one, like a barcode."""
    taken: dict[Any, str] = {}
    for place, pool in _entries(data, "pools"):
        if pool.get("library"):
            continue
        for at, name, _ in _volumes(place, pool):
            if at != place and isinstance(name, str) and name in taken:
                yield (*at, "name"), f"{name!r} is {taken[name]} already; expected another name"
            taken[name] = f"a volume of pool {pool.get('name')}"


def _option_errors(place: Place, kind: str, entry: Mapping[str, Any]) -> Iterator[Finding]:
    driver, options = _driver(kind, entry), entry.get("options", {})
    if not isinstance(options, Mapping):
        return
    needed = PATH_OPTIONS.get(driver) if isinstance(driver, str) else None
    if needed is not None and not (isinstance(value := options.get(needed), str) and value):
        at = (*place, "options", needed) if needed in options else (*place, "options")
        found = f"; found {options[needed]!r}" if needed in options else ""
        yield at, f"the driver {driver} needs the option {needed}: the path of a folder{found}"
    for key, value in options.items():
        try:
            _unit(key, value)
        except ValueError as error:
            yield (*place, "options", key), str(error)


def _shared_folders(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Two copies in one folder would count as two volumes and be lost together."""
    taken: list[tuple[Any, Path]] = []
    for place, pool in _entries(data, "pools"):
        driver = _driver("pools", pool)
        if driver not in PATH_OPTIONS or not isinstance(pool.get("options", {}), Mapping):
            continue
        for at, name, options in _volumes(place, pool):
            if not isinstance(path := options.get(PATH_OPTIONS[driver]), str) or not path:
                continue
            mine = Path(path)
            for other_name, other in taken:
                if mine == other or mine in other.parents or other in mine.parents:
                    yield (
                        (*at, "options", PATH_OPTIONS[driver]),
                        f"the folder {path} is, holds or lies in that of pool {other_name}; "
                        "each pool needs its own",
                    )
            taken.append((name, mine))


def _twice(data: Mapping[str, Any], path: tuple[str, ...], key: str, noun: str) -> Iterator[Finding]:
    seen: set[str] = set()
    inner: Any = data
    for part in path[:-1]:
        inner = inner.get(part)
        if not isinstance(inner, Mapping):
            return
    for place, entry in _entries(inner, path[-1]):
        value = entry.get(key)
        if isinstance(value, str):
            if value in seen:
                yield (
                    (*path[:-1], *place, key),
                    f"another {noun} {value!r} comes before it; expected each once",
                )
            seen.add(value)


def _unknown_variables(value: Any, place: Place) -> Iterator[Finding]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _unknown_variables(inner, (*place, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _unknown_variables(inner, (*place, number))
    elif isinstance(value, str):
        for match in _VARIABLE.finditer(value):
            if match[0] != HOME:
                yield place, f"{match[0]} is not known; only {HOME} is expanded"


def _expanded(value: Any, home: str) -> Any:
    if isinstance(value, dict):
        return {key: _expanded(inner, home) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_expanded(inner, home) for inner in value]
    return value.replace(HOME, home) if isinstance(value, str) else value


def _entries(data: Mapping[str, Any], key: str) -> list[tuple[Place, Any]]:
    entries = data.get(key)
    if not isinstance(entries, list):
        return []
    return [((key, number), entry) for number, entry in enumerate(entries) if isinstance(entry, Mapping)]


def _driver(kind: str, entry: Mapping[str, Any]) -> Any:
    if kind == "pools":
        return None if entry.get("library") else entry.get("driver", "folder")
    return entry.get("driver")


def _make_absolute(section: Any, key: str, folder: Path) -> None:
    if isinstance(section, dict) and isinstance(value := section.get(key), str | Path) and str(value):
        section[key] = str(folder / value)


def _convert_units(options: dict[str, Any]) -> None:
    for key, value in options.items():
        try:
            options[key] = _unit(key, value)
        except ValueError:
            continue  # cross_errors reports it with its line


def _unit(key: str, value: Any) -> Any:
    """Options named ``…_bytes`` are sizes and those named ``…_seconds`` durations, in every driver."""
    if key.endswith("_bytes"):
        return parse_size(value)
    return parse_duration(value) if key.endswith("_seconds") else value
