"""What the command line does without a daemon: checking files, checking and upgrading the catalog.

Each function returns a :class:`Report` and raises nothing that a mistake in a file can cause.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from hsm import config
from hsm.catalog import backup, chaincheck, check, mend, rebuilding, upgrade
from hsm.catalog.engine import Catalog, open_engine
from hsm.catalog.tables import Journal
from hsm.clock import SystemClock
from hsm.config.fields import check_url
from hsm.config.units import parse_duration
from hsm.errors import ConfigError, NotFound, Refused
from hsm.opening import configured
from hsm.policyrun import burden
from hsm.policyrun.frozen import frozen
from hsm.pooldesk import attempt, chosen
from policies import PolicyError, PolicyErrors, PolicySet, PoolInfo, load_folder, load_texts

EXPIRY_SECONDS_MAX = 3660 * 86400.0
PROBLEMS_SHOWN_MAX = 20
"""Of each kind of problem."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was looked at and what was found."""

    subject: str
    """The file, folder or database."""
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    """What is good to know; sentences."""
    refused: bool = False
    """Nothing was tried: something forbids it, and ``errors`` says what."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """All of it, for programs."""

    @property
    def ok(self) -> bool:
        return not self.errors


def control_socket(environ: Mapping[str, str]) -> Path | None:
    """Where the configuration puts the control socket; None when it cannot be read."""
    try:
        return config.load(None, environ, files=False).api.socket
    except ConfigError:
        return None


def tokens_file(environ: Mapping[str, str]) -> Path:
    """Where the configuration has the tokens of the control API.

    :raises ConfigError: the configuration cannot be read, or has no ``api.tcp``.
    """
    found = config.load(None, environ, files=False)
    if found.api.tcp is None:
        raise ConfigError(f"{found.source}: has no api.tcp, so nobody comes in with a token (or give --file)")
    return found.api.tcp.tokens_file


def expiry(text: str, now: datetime) -> datetime | None:
    """The end of a duration; None for ``never``.

    :raises ValueError: no duration above 0.
    """
    if text == "never":
        return None
    seconds = parse_duration(text)
    if not 0 < seconds <= EXPIRY_SECONDS_MAX:
        raise ValueError(f"expires {text!r}: expected a duration above 0, 10 years at most, or never")
    return now + timedelta(seconds=seconds)


def check_config(path: Path | None, environ: Mapping[str, str]) -> Report:
    """Read and validate a configuration, and the policies it names."""
    try:
        found = config.load(path, environ)
    except config.InvalidConfig as error:
        return Report(str(error.problems[0].source), tuple(str(problem) for problem in error.problems))
    except ConfigError as error:
        return Report(str(path or "configuration"), (str(error),))
    policies, now = _check_policies(found.policies, found), SystemClock().now()
    api, of_api = config.api_facts(found.api, now)
    facts = (
        f"data in {found.home}",
        f"AE {found.archive.ae_title} on {_ports(found.dicom)}",
        "pools: " + ", ".join(f"{pool.name} ({pool.tier.value})" for pool in found.pools),
        *api,
        *policies.facts,
    )
    warnings = (*config.certificate_warnings(found.dicom, now), *of_api, *policies.warnings)
    return Report(str(found.source), policies.errors, warnings, facts)


def _ports(dicom: config.DicomConfig) -> str:
    doors = (f"{each.listen}:{each.port}{' (TLS)' if each.tls else ''}" for each in dicom.doors)
    return " and ".join(doors)


def check_policies(path: Path | None, config_path: Path | None, environ: Mapping[str, str]) -> Report:
    """Check a policy file or a folder of them (the configured one when None) against the pools."""
    try:
        found = config.load(config_path, environ)
    except ConfigError as error:
        return Report(str(config_path or "configuration"), (str(error),))
    return _check_policies(path or found.policies, found)


def _check_policies(path: Path, known: config.Config) -> Report:
    pools = configured(known)
    try:
        loaded = _load_policies(path, pools)
    except PolicyErrors as error:
        return Report(str(path), tuple(each.render() for each in error.errors))
    except (OSError, UnicodeDecodeError) as error:
        return Report(str(path), (f"{path}: cannot be read: {error}",))
    rules = sum(len(policy.rules) for policy in loaded.policies)
    names = ", ".join(policy.name for policy in loaded.policies) or "none"
    warnings = tuple(each.render() for each in (*loaded.warnings, *_too_heavy(loaded, known)))
    notes = tuple(str(each) for each in loaded.notes)
    return Report(str(path), (), warnings, (f"policies: {names} ({rules} rule{'s' * (rules != 1)})", *notes))


def _too_heavy(loaded: PolicySet, known: config.Config) -> list[PolicyError]:
    """Policies that cannot carry what arrives, as the catalog knows it; none where there is no catalog
    of this version to ask: policies can be checked anywhere."""
    try:
        _require_file(known)
        engine = open_engine(known.catalog.url)
    except ConfigError:
        return []
    try:
        upgrade.require_head(engine)
        catalog = Catalog(engine, SystemClock())
        with frozen(catalog) as session:
            return burden.warnings(session, loaded, catalog.clock.now())
    except (ConfigError, SQLAlchemyError):
        return []
    finally:
        engine.dispose()


def _load_policies(path: Path, pools: tuple[PoolInfo, ...]) -> PolicySet:
    if path.is_file():
        return load_texts({str(path): path.read_text("utf-8")}, pools)
    return load_folder(path, pools)


def check_catalog(config_path: Path | None, environ: Mapping[str, str]) -> Report:
    """Is the catalog at the right revision, whole, and its journal unbroken? Changes nothing."""
    engine = _there(config_path, environ)
    if isinstance(engine, Report):
        return engine
    subject = engine.url.render_as_string(hide_password=True)
    try:
        upgrade.require_head(engine)
        errors = [*_inconsistencies(engine), *_broken_journal(engine)]
        facts = (f"revision {upgrade.head_revision()}", f"{_journal_length(engine)} records in the journal")
        return Report(subject, tuple(errors), (), facts)
    except (ConfigError, SQLAlchemyError) as error:
        return Report(subject, (str(error),))
    finally:
        engine.dispose()


def upgrade_catalog(config_path: Path | None, environ: Mapping[str, str]) -> Report:
    """Bring the catalog to this software's revision, making it where there is none.

    Refused while a daemon answers on this configuration's control socket.
    """
    engine = _at_rest(config_path, environ)
    if isinstance(engine, Report):
        return engine
    subject = engine.url.render_as_string(hide_password=True)
    try:
        before = upgrade.current_revision(engine)
        upgrade.upgrade(engine)
    except (ConfigError, SQLAlchemyError, OSError) as error:
        return Report(subject, (str(error),))
    finally:
        engine.dispose()
    head = upgrade.head_revision()
    fact = (
        f"already at revision {head}" if before == head else f"upgraded from {before or 'nothing'} to {head}"
    )
    return Report(subject, facts=(fact,))


def refresh_catalog(config_path: Path | None, environ: Mapping[str, str]) -> Report:
    """Make what studies keep for policies what their copies and series say."""
    engine = _there(config_path, environ)
    if isinstance(engine, Report):
        return engine
    try:
        upgrade.require_head(engine)
        mended = mend.refresh_studies(Catalog(engine, SystemClock()))
    except (ConfigError, SQLAlchemyError) as error:
        return Report("catalog", (str(getattr(error, "orig", error)),))
    finally:
        engine.dispose()
    return Report("catalog", facts=(f"{mended} studies were not as their rows say, and are now",))


def backup_catalog(config_path: Path | None, environ: Mapping[str, str], to: Path) -> Report:
    """Write the catalog as it is at one moment into a new file; a daemon may go on meanwhile."""
    engine = _there(config_path, environ)
    if isinstance(engine, Report):
        return engine
    try:
        upgrade.require_head(engine)
        catalog = Catalog(engine, SystemClock())
        with backup.new_file(to) as file, frozen(catalog) as session:
            summary = backup.write(catalog, session, file)
    except (ConfigError, SQLAlchemyError, OSError) as error:
        return Report(str(to), (str(getattr(error, "orig", error)),))
    finally:
        engine.dispose()
    return Report(str(to), facts=backup_facts(summary))


def restore_catalog(
    config_path: Path | None, environ: Mapping[str, str], source: Path, by: str, *, moved: bool = False
) -> Report:
    """Put a backup back into the configured catalog, which must be empty or not there yet.

    Refused while a daemon answers on this configuration's control socket.

    :param moved: somebody answers for it that nothing was written since the backup: the catalog moves from
        one database to another, and need not be compared with its media.
    """
    engine = _at_rest(config_path, environ)
    if isinstance(engine, Report):
        return engine
    subject = engine.url.render_as_string(hide_password=True)
    try:
        upgrade.upgrade(engine)
        with source.open("rb") as file:
            catalog = Catalog(engine, SystemClock())
            summary = backup.restore(catalog, file, by)
        if moved:
            with catalog.write() as session:
                why = {"why": f"moved: nothing was written since the backup, says {by}"}
                rebuilding.compared(session, catalog.clock.now(), by, why)
    except Refused as error:
        return Report(subject, (str(error),), refused=True)
    except (ConfigError, SQLAlchemyError, OSError) as error:
        return Report(subject, (str(getattr(error, "orig", error)),))
    finally:
        engine.dispose()
    return Report(subject, facts=backup_facts(summary))


def _there(config_path: Path | None, environ: Mapping[str, str]) -> Engine | Report:
    """The configured catalog, which must be there; else why not."""
    try:
        found = config.load(config_path, environ)
        _require_file(found)
        return open_engine(found.catalog.url)
    except ConfigError as error:
        return Report("catalog", (str(error),))


def at_rest(config_path: Path | None, environ: Mapping[str, str], into: str = "") -> config.Config | Report:
    """The configuration of an archive whose daemon does not run; else why not.

    :param into: the URL of another database than the configured one.
    """
    try:
        found = config.load(config_path, environ)
        if into:
            other = found.catalog.model_copy(update={"url": check_url(into)})
            found = found.model_copy(update={"catalog": other})
    except (ConfigError, ValueError) as error:
        return Report("catalog", (str(error),))
    if daemon_answers(found):
        why = f"a daemon answers on {found.api.socket}: stop it (and every other node) first"
        return Report("catalog", (why,), refused=True)
    return found


def _at_rest(config_path: Path | None, environ: Mapping[str, str]) -> Engine | Report:
    """The configured catalog, which may not be there yet and which no daemon serves; else why not."""
    found = at_rest(config_path, environ)
    if isinstance(found, Report):
        return found
    engine = open_engine(found.catalog.url)
    if engine.url.database and engine.dialect.name == "sqlite":
        try:
            Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            return Report(engine.url.render_as_string(hide_password=True), (str(error),))
    return engine


def backup_facts(summary: backup.Summary) -> tuple[str, ...]:
    """What a backup holds, in sentences."""
    return (
        f"as of {summary.at:%Y-%m-%d %H:%M:%S} UTC, revision {summary.revision}, {summary.rows} rows",
        f"journal: {summary.journal_seq} {summary.journal_digest}",
    )


def _require_file(found: config.Config) -> None:
    """Opening a SQLite catalog makes an empty one; a check must not."""
    prefix = "sqlite:///"
    path = found.catalog.url.removeprefix(prefix)
    if path != found.catalog.url and not Path(path).is_file():
        raise ConfigError(f"{path} is not there yet; `hsm serve` or `hsm catalog upgrade` makes it")


def _inconsistencies(engine: Engine) -> list[str]:
    with Catalog(engine, SystemClock()).read() as session:
        found = check.check(session, PROBLEMS_SHOWN_MAX)
    return [f"{each.noun} {each.subject}: {each.message}; {each.remedy}" for each in found]


def _broken_journal(engine: Engine) -> list[str]:
    with Catalog(engine, SystemClock()).read() as session:
        problems = islice(chaincheck.verify(session), PROBLEMS_SHOWN_MAX)
        return [f"journal, record {problem.seq}: {problem.message}" for problem in problems]


def _journal_length(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(Journal)).scalar_one())


def daemon_answers(found: config.Config) -> bool:
    """Whether a daemon serves this configuration's control socket."""
    path = found.api.socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def test_pool(
    path: Path | None, environ: Mapping[str, str], name: str, volume: str
) -> list[dict[str, object]] | str:
    """Try the volumes of a configured pool from this process; one record each, or why nothing was tried."""
    try:
        found = config.load(path, environ, files=False)
        wanted = chosen(found, name, volume)
    except (ConfigError, NotFound, Refused) as error:
        return str(error)
    return [attempt(each, None) for each in wanted]
