"""What the first schema forbids, whoever asks: promises 3 and 7 as triggers.

The daemon never asks for any of it; a bug, a second program or a hand at the SQL prompt may. Every
refusal is an integrity error on both databases. Part of the first migration, so frozen with it: a
later change of a trigger is a later migration.

Alembic's batch mode on SQLite rebuilds a table and loses its triggers: a migration that uses it
must create them again. tests/catalog/test_triggers.py notices.
"""

from __future__ import annotations

LIVE = "('writing', 'written', 'verified', 'suspect', 'releasing')"
"""States of copies that stand for bytes on a volume."""

GOOD_VOLUMES = "('labelled', 'active', 'full')"
"""States of volumes whose verified copies count, as in :mod:`hsm.guard`."""

LAST_COPY = "the package has no other verified copy on another good volume (promise 3)"
SHORT_CUT = "a copy that was verified, suspect or lost becomes released only through releasing"
COPY_IDENTITY = "a copy never changes its package or volume"
COPY_DELETE = "a copy is released, never deleted"
COPY_RETIRED = "its volume is retired and takes no copies"
VOLUME_RETIRED = "a volume that holds copies cannot be retired; release or move them first"
JOURNAL = "the journal is append-only (promise 7)"
HEAD = "the head of the journal cannot be deleted (promise 7)"
INSTANCE = "uid, size and digest of an instance never change"
PACKAGE = "key, size and digest of a package never change"

# Gone is what may be the last good copy: a verified one on its way out, or one that was written and
# is given up before anybody read it back.
_LEAVES = "NEW.state = 'releasing' AND {old} <> 'releasing' OR NEW.state = 'released' AND {old} = 'written'"

_ANOTHER = f"""EXISTS (
        SELECT 1 FROM copy AS other JOIN volume ON volume.pk = other.volume_pk
        WHERE other.package_pk = NEW.package_pk AND other.volume_pk <> NEW.volume_pk
          AND other.state = 'verified' AND volume.state IN {GOOD_VOLUMES})"""


def statements(dialect: str) -> list[str]:
    """The DDL for ``sqlite`` or ``postgresql``, in order."""
    return _sqlite() if dialect == "sqlite" else _postgresql()


def _sqlite() -> list[str]:
    another = f"NOT {_ANOTHER}"
    retired = f"NEW.state IN {LIVE} AND (SELECT state FROM volume WHERE pk = NEW.volume_pk) = 'retired'"
    copies = f"EXISTS (SELECT 1 FROM copy WHERE volume_pk = NEW.pk AND state IN {LIVE})"
    leaves = _LEAVES.format(old="OLD.state")
    rules = (
        ("copy_last_update", "UPDATE OF state ON copy", f"({leaves}) AND {another}", f"copy: {LAST_COPY}"),
        (
            "copy_last_insert",
            "INSERT ON copy",
            f"NEW.state = 'releasing' AND {another}",
            f"copy: {LAST_COPY}",
        ),
        (
            "copy_short_cut",
            "UPDATE OF state ON copy",
            "NEW.state = 'released' AND OLD.state IN ('verified', 'suspect', 'lost')",
            f"copy: {SHORT_CUT}",
        ),
        (
            "copy_identity",
            "UPDATE OF package_pk, volume_pk ON copy",
            "NEW.package_pk <> OLD.package_pk OR NEW.volume_pk <> OLD.volume_pk",
            f"copy: {COPY_IDENTITY}",
        ),
        ("copy_delete", "DELETE ON copy", "1", f"copy: {COPY_DELETE}"),
        ("copy_retired_insert", "INSERT ON copy", retired, f"copy: {COPY_RETIRED}"),
        ("copy_retired_update", "UPDATE OF state ON copy", retired, f"copy: {COPY_RETIRED}"),
        (
            "volume_retired",
            "UPDATE OF state ON volume",
            f"NEW.state = 'retired' AND OLD.state <> 'retired' AND {copies}",
            f"volume: {VOLUME_RETIRED}",
        ),
        ("journal_update", "UPDATE ON journal", "1", JOURNAL),
        ("journal_delete", "DELETE ON journal", "1", JOURNAL),
        ("journal_head_delete", "DELETE ON journal_head", "1", HEAD),
        ("instance_bytes", "UPDATE OF uid, size, digest ON instance", _changed("uid"), INSTANCE),
        ("package_bytes", "UPDATE OF key, size, digest ON package", _changed("key"), PACKAGE),
    )
    return [
        f"CREATE TRIGGER {name} BEFORE {event} WHEN {condition} BEGIN SELECT RAISE(ABORT, '{message}'); END"
        for name, event, condition, message in rules
    ]


def _changed(name: str) -> str:
    return f"NEW.{name} <> OLD.{name} OR NEW.size <> OLD.size OR NEW.digest <> OLD.digest"


def _postgresql() -> list[str]:
    return [
        _function("hsm_refuse", "RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = '23000';"),
        _function("hsm_copy_guard", _COPY_GUARD),
        _function("hsm_volume_guard", _VOLUME_GUARD),
        "CREATE TRIGGER copy_insert BEFORE INSERT ON copy FOR EACH ROW EXECUTE FUNCTION hsm_copy_guard()",
        "CREATE TRIGGER copy_update BEFORE UPDATE OF state, package_pk, volume_pk ON copy"
        " FOR EACH ROW EXECUTE FUNCTION hsm_copy_guard()",
        *_refusals("copy", "DELETE", f"copy: {COPY_DELETE}"),
        "CREATE TRIGGER volume_retired BEFORE UPDATE OF state ON volume FOR EACH ROW"
        " WHEN (NEW.state = 'retired' AND OLD.state <> 'retired') EXECUTE FUNCTION hsm_volume_guard()",
        *_refusals("journal", "UPDATE OR DELETE", JOURNAL),
        *_refusals("journal_head", "DELETE", HEAD),
        f"CREATE TRIGGER instance_bytes BEFORE UPDATE OF uid, size, digest ON instance FOR EACH ROW"
        f" WHEN ({_changed('uid')}) EXECUTE FUNCTION hsm_refuse('{INSTANCE}')",
        f"CREATE TRIGGER package_bytes BEFORE UPDATE OF key, size, digest ON package FOR EACH ROW"
        f" WHEN ({_changed('key')}) EXECUTE FUNCTION hsm_refuse('{PACKAGE}')",
    ]


def _function(name: str, body: str) -> str:
    return f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$\nBEGIN\n{body}\nEND $$"


def _refusals(table: str, events: str, message: str) -> list[str]:
    """Refuse these events a row at a time, and TRUNCATE, which fires no row's trigger."""
    refuse = f"EXECUTE FUNCTION hsm_refuse('{message}')"
    return [
        f"CREATE TRIGGER {table}_refuse BEFORE {events} ON {table} FOR EACH ROW {refuse}",
        f"CREATE TRIGGER {table}_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT {refuse}",
    ]


# Both guards rest on seeing what others have committed up to this moment; an older snapshot hides it.
_READ_COMMITTED = """
IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION '% of % %: only under READ COMMITTED, an older snapshot would hide other copies',
        NEW.state, TG_TABLE_NAME, NEW.pk USING ERRCODE = '23000';
END IF;"""

# The package row is locked before the others are looked at: of two nodes that release its last two
# copies the second waits, then sees that it is too late.
_COPY_GUARD = f"""
IF TG_OP = 'UPDATE' THEN
    IF NEW.package_pk <> OLD.package_pk OR NEW.volume_pk <> OLD.volume_pk THEN
        RAISE EXCEPTION 'copy %: {COPY_IDENTITY}', OLD.pk USING ERRCODE = '23000';
    END IF;
    IF NEW.state = 'released' AND OLD.state IN ('verified', 'suspect', 'lost') THEN
        RAISE EXCEPTION 'copy %: {SHORT_CUT}', NEW.pk USING ERRCODE = '23000';
    END IF;
END IF;
IF {_LEAVES.format(old="coalesce(OLD.state, '')")} THEN
    {_READ_COMMITTED}
    PERFORM 1 FROM package WHERE pk = NEW.package_pk FOR NO KEY UPDATE;
    IF NOT {_ANOTHER} THEN
        RAISE EXCEPTION 'copy %: {LAST_COPY}', NEW.pk USING ERRCODE = '23000';
    END IF;
END IF;
IF NEW.state IN {LIVE} AND EXISTS (
    SELECT 1 FROM volume WHERE pk = NEW.volume_pk AND state = 'retired'
) THEN
    RAISE EXCEPTION 'copy %: {COPY_RETIRED}', NEW.pk USING ERRCODE = '23000';
END IF;
RETURN NEW;"""

# The table lock waits for every transaction that has a new copy under way and keeps others out until
# this one ends. Volumes are retired rarely; copies change all the time and pay nothing.
_VOLUME_GUARD = f"""
{_READ_COMMITTED}
LOCK TABLE copy IN SHARE ROW EXCLUSIVE MODE;
IF EXISTS (SELECT 1 FROM copy WHERE volume_pk = NEW.pk AND state IN {LIVE}) THEN
    RAISE EXCEPTION 'volume %: {VOLUME_RETIRED}', NEW.name USING ERRCODE = '23000';
END IF;
RETURN NEW;"""
