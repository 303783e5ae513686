"""What the sixth schema allows and forbids besides: when a last copy may go, and what stays on record.

The one exception to promise 3: a package that a deletion names whose day has come (it is due; or purged,
where a volume was found again), and whose study is neither held nor retained. Every refusal is an integrity
error on both databases, as in the first schema. Frozen with its migration.
"""

from __future__ import annotations

from hsm.catalog.migrations import triggers_0001

DELETION_MADE = "deletion: it begins as standing, and is not due before it was made"
DELETION_DAY = "deletion: it is due only once its day has come"
DELETION_CHANGE = "deletion: who deleted a study, when and why never changes, and what has ended stays so"
DELETION_PURGED = "deletion: copies of its packages still count"
DELETION_DELETE = "deletion: it is undone, never deleted"
DELETED_PACKAGE = "deleted_package: the deletion does not hide all of it"
DELETED_RECORD = "deleted_package: it stays on record unless its deletion is undone"
HIDDEN_INSERT = "hidden_instance: its deletion has ended"
HIDDEN_RECORD = "hidden_instance: an instance is shown again only when its deletion is undone"

_LIVE = triggers_0001.LIVE
_LEAVES = triggers_0001._LEAVES
_DAY = {
    "sqlite": "strftime('%Y%m%d', {})",
    "postgresql": "to_char({} AT TIME ZONE 'UTC', 'YYYYMMDD')",
}


def _kept(study: str, at: str, dialect: str) -> str:
    """The study is held, or retained on the day of that time."""
    return f"""(EXISTS (SELECT 1 FROM hold WHERE hold.study_pk = {study} AND hold.lifted_at IS NULL)
        OR EXISTS (SELECT 1 FROM study WHERE study.pk = {study} AND study.retain_until <> ''
            AND study.retain_until >= {_DAY[dialect].format(at)}))"""


def _may_end(dialect: str) -> str:
    return f"""EXISTS (
        SELECT 1 FROM deleted_package JOIN deletion ON deletion.pk = deleted_package.deletion_pk
        WHERE deleted_package.package_pk = NEW.package_pk AND deletion.kind = 'trash'
          AND deletion.state IN ('due', 'purged') AND deletion.due_at <= deletion.checked_at
          AND NOT {_kept("deletion.study_pk", "deletion.checked_at", dialect)})"""


_CHANGED = (
    "OLD.ended_at IS NOT NULL OR NEW.pk <> OLD.pk OR NEW.study_pk <> OLD.study_pk OR NEW.kind <> OLD.kind"
    " OR NEW.code <> OLD.code OR NEW.note <> OLD.note OR NEW.reason <> OLD.reason"
    " OR NEW.made_at <> OLD.made_at OR NEW.made_by <> OLD.made_by OR NEW.approved_by <> OLD.approved_by"
    " OR coalesce(NEW.due_at <> OLD.due_at, NEW.due_at IS NOT NULL OR OLD.due_at IS NOT NULL)"
    " OR NEW.state = 'standing' AND OLD.state <> 'standing'"
    " OR NEW.state = 'purged' AND OLD.state <> 'due'"
)
# Whether the study is held or retained is asked when a copy is to go, which is when it matters.
_MADE = "NEW.state <> 'standing' OR NEW.ended_at IS NOT NULL OR NEW.due_at < NEW.made_at"
_EARLY = "NEW.state = 'due' AND (NEW.checked_at IS NULL OR NEW.due_at > NEW.checked_at)"
_COUNTS = f"""NEW.state = 'purged' AND EXISTS (
        SELECT 1 FROM deleted_package JOIN copy ON copy.package_pk = deleted_package.package_pk
        WHERE deleted_package.deletion_pk = NEW.pk AND copy.state IN {_LIVE})"""
_OPEN = "EXISTS (SELECT 1 FROM deletion WHERE pk = NEW.deletion_pk AND state IN ('standing', 'due'))"
_WHOLE = """EXISTS (SELECT 1 FROM deletion JOIN package ON package.study_pk = deletion.study_pk
            WHERE deletion.pk = NEW.deletion_pk AND package.pk = NEW.package_pk)
        AND NOT EXISTS (
            SELECT 1 FROM package JOIN series ON series.study_pk = package.study_pk
            JOIN instance ON instance.series_pk = series.pk AND instance.package_pk = package.pk
            WHERE package.pk = NEW.package_pk AND NOT EXISTS (
                SELECT 1 FROM hidden_instance WHERE hidden_instance.instance_pk = instance.pk
                  AND hidden_instance.deletion_pk = NEW.deletion_pk))"""
_UNDONE = "EXISTS (SELECT 1 FROM deletion WHERE pk = OLD.deletion_pk AND state = 'undone')"


def statements(dialect: str) -> list[str]:
    """The DDL for ``sqlite`` or ``postgresql``, in order."""
    return _sqlite() if dialect == "sqlite" else _postgresql()


def _sqlite() -> list[str]:
    leaves = _LEAVES.format(old="OLD.state")
    nothing_else = f"NOT {triggers_0001._ANOTHER} AND NOT {_may_end('sqlite')}"
    rules = (
        (
            "copy_last_update",
            "UPDATE OF state ON copy",
            f"({leaves}) AND {nothing_else}",
            f"copy: {triggers_0001.LAST_COPY}",
        ),
        ("deletion_made", "INSERT ON deletion", _MADE, DELETION_MADE),
        ("deletion_day", "UPDATE ON deletion", _EARLY, DELETION_DAY),
        ("deletion_change", "UPDATE ON deletion", _CHANGED, DELETION_CHANGE),
        ("deletion_purged", "UPDATE ON deletion", _COUNTS, DELETION_PURGED),
        ("deletion_delete", "DELETE ON deletion", "1", DELETION_DELETE),
        (
            "deleted_package_insert",
            "INSERT ON deleted_package",
            f"NOT ({_OPEN} AND {_WHOLE})",
            DELETED_PACKAGE,
        ),
        ("deleted_package_update", "UPDATE ON deleted_package", "1", DELETED_RECORD),
        ("deleted_package_delete", "DELETE ON deleted_package", f"NOT {_UNDONE}", DELETED_RECORD),
        ("hidden_instance_insert", "INSERT ON hidden_instance", f"NOT {_OPEN}", HIDDEN_INSERT),
        ("hidden_instance_update", "UPDATE ON hidden_instance", "1", HIDDEN_RECORD),
        ("hidden_instance_delete", "DELETE ON hidden_instance", f"NOT {_UNDONE}", HIDDEN_RECORD),
    )
    return [
        "DROP TRIGGER copy_last_update",
        *(
            f"CREATE TRIGGER {name} BEFORE {event} WHEN {condition}"
            f" BEGIN SELECT RAISE(ABORT, '{message}'); END"
            for name, event, condition, message in rules
        ),
    ]


def _postgresql() -> list[str]:
    first = triggers_0001._COPY_GUARD
    last = f"IF NOT {triggers_0001._ANOTHER} THEN"
    if last not in first:
        raise RuntimeError("the first schema's guard of copies is not the one that this migration extends")
    guard = first.replace(last, f"IF NOT {triggers_0001._ANOTHER} AND NOT {_may_end('postgresql')} THEN")
    return [
        _function("hsm_copy_guard", guard, replace=True),
        _function("hsm_deletion_undone", _DELETION_UNDONE),
        _function("hsm_deleted_package", _DELETED_PACKAGE),
        _function("hsm_hidden_instance", _HIDDEN_INSTANCE),
        _function("hsm_deletion_purged", _DELETION_PURGED),
        f"CREATE TRIGGER deletion_made BEFORE INSERT ON deletion FOR EACH ROW WHEN ({_MADE})"
        f" EXECUTE FUNCTION hsm_refuse('{DELETION_MADE}')",
        f"CREATE TRIGGER deletion_change BEFORE UPDATE ON deletion FOR EACH ROW WHEN ({_CHANGED})"
        f" EXECUTE FUNCTION hsm_refuse('{DELETION_CHANGE}')",
        f"CREATE TRIGGER deletion_day BEFORE UPDATE ON deletion FOR EACH ROW WHEN ({_EARLY})"
        f" EXECUTE FUNCTION hsm_refuse('{DELETION_DAY}')",
        "CREATE TRIGGER deletion_purged BEFORE UPDATE ON deletion FOR EACH ROW WHEN (NEW.state = 'purged')"
        " EXECUTE FUNCTION hsm_deletion_purged()",
        "CREATE TRIGGER deletion_undone BEFORE UPDATE ON deletion FOR EACH ROW WHEN (NEW.state = 'undone')"
        " EXECUTE FUNCTION hsm_deletion_undone()",
        *_refusals("deletion", "DELETE", DELETION_DELETE),
        "CREATE TRIGGER deleted_package_change BEFORE INSERT OR DELETE ON deleted_package FOR EACH ROW"
        " EXECUTE FUNCTION hsm_deleted_package()",
        *_refusals("deleted_package", "UPDATE", DELETED_RECORD),
        "CREATE TRIGGER hidden_instance_change BEFORE INSERT OR DELETE ON hidden_instance FOR EACH ROW"
        " EXECUTE FUNCTION hsm_hidden_instance()",
        *_refusals("hidden_instance", "UPDATE", HIDDEN_RECORD),
    ]


def _function(name: str, body: str, *, replace: bool = False) -> str:
    create = "CREATE OR REPLACE FUNCTION" if replace else "CREATE FUNCTION"
    return f"{create} {name}() RETURNS trigger LANGUAGE plpgsql AS $$\nBEGIN\n{body}\nEND $$"


def _refusals(table: str, events: str, message: str) -> list[str]:
    """Refuse these events a row at a time, and TRUNCATE, which fires no row's trigger."""
    refuse = f"EXECUTE FUNCTION hsm_refuse('{message}')"
    return [
        f"CREATE TRIGGER {table}_refuse BEFORE {events} ON {table} FOR EACH ROW {refuse}",
        f"CREATE TRIGGER {table}_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT {refuse}",
    ]


# Whoever undoes a deletion locks the study's packages, as whoever releases a copy does: so a release sees
# that it was undone, or was before it.
_DELETION_UNDONE = """
PERFORM 1 FROM package WHERE study_pk = NEW.study_pk ORDER BY pk FOR NO KEY UPDATE;
RETURN NEW;"""

_DELETION_PURGED = f"""
IF {_COUNTS} THEN
    RAISE EXCEPTION '{DELETION_PURGED}' USING ERRCODE = '23000';
END IF;
RETURN NEW;"""

_DELETED_PACKAGE = f"""
IF TG_OP = 'INSERT' THEN
    IF NOT ({_OPEN} AND {_WHOLE}) THEN
        RAISE EXCEPTION '{DELETED_PACKAGE}' USING ERRCODE = '23000';
    END IF;
    RETURN NEW;
END IF;
IF NOT {_UNDONE} THEN
    RAISE EXCEPTION '{DELETED_RECORD}' USING ERRCODE = '23000';
END IF;
RETURN OLD;"""

_HIDDEN_INSTANCE = f"""
IF TG_OP = 'INSERT' THEN
    IF NOT {_OPEN} THEN
        RAISE EXCEPTION '{HIDDEN_INSERT}' USING ERRCODE = '23000';
    END IF;
    RETURN NEW;
END IF;
IF NOT {_UNDONE} THEN
    RAISE EXCEPTION '{HIDDEN_RECORD}' USING ERRCODE = '23000';
END IF;
RETURN OLD;"""
