"""What the second schema forbids besides: a held study's copies stay, and what was decided stays written.

Every refusal is an integrity error on both databases, as in the first schema. Frozen with its migration.
"""

from __future__ import annotations

COPY_HELD = "copy: its study is under legal hold, no good copy of it is released"
HOLD_DELETE = "hold: a hold is lifted, never deleted"
HOLD_CHANGE = "hold: who placed a hold, when and why never changes; it is lifted once"
ACTIVATION = "activation: what came into force stays on record"

# A suspect copy may go also from a held study: its bytes are not the study's, and it must be mended.
_LEAVES = (
    "NEW.state = 'releasing' AND {old} NOT IN ('releasing', 'suspect')"
    " OR NEW.state = 'released' AND {old} = 'written'"
)

_HELD = """EXISTS (SELECT 1 FROM hold JOIN package ON package.study_pk = hold.study_pk
        WHERE package.pk = NEW.package_pk AND hold.lifted_at IS NULL)"""

_CHANGED = (
    "OLD.lifted_at IS NOT NULL OR NEW.pk <> OLD.pk OR NEW.study_pk <> OLD.study_pk"
    " OR NEW.placed_at <> OLD.placed_at OR NEW.placed_by <> OLD.placed_by OR NEW.reason <> OLD.reason"
)


def statements(dialect: str) -> list[str]:
    """The DDL for ``sqlite`` or ``postgresql``, in order."""
    return _sqlite() if dialect == "sqlite" else _postgresql()


def _sqlite() -> list[str]:
    rules = (
        (
            "copy_held_update",
            "UPDATE OF state ON copy",
            f"({_LEAVES.format(old='OLD.state')}) AND {_HELD}",
            COPY_HELD,
        ),
        ("copy_held_insert", "INSERT ON copy", f"NEW.state = 'releasing' AND {_HELD}", COPY_HELD),
        ("hold_delete", "DELETE ON hold", "1", HOLD_DELETE),
        ("hold_change", "UPDATE ON hold", _CHANGED, HOLD_CHANGE),
        ("activation_update", "UPDATE ON activation", "1", ACTIVATION),
        ("activation_delete", "DELETE ON activation", "1", ACTIVATION),
    )
    return [
        f"CREATE TRIGGER {name} BEFORE {event} WHEN {condition} BEGIN SELECT RAISE(ABORT, '{message}'); END"
        for name, event, condition, message in rules
    ]


def _postgresql() -> list[str]:
    return [
        _function("hsm_hold_guard", _HOLD_GUARD),
        _function("hsm_hold_placed", _HOLD_PLACED),
        "CREATE TRIGGER copy_held BEFORE INSERT OR UPDATE OF state ON copy"
        " FOR EACH ROW EXECUTE FUNCTION hsm_hold_guard()",
        "CREATE TRIGGER hold_placed BEFORE INSERT ON hold FOR EACH ROW EXECUTE FUNCTION hsm_hold_placed()",
        f"CREATE TRIGGER hold_change BEFORE UPDATE ON hold FOR EACH ROW WHEN ({_CHANGED})"
        f" EXECUTE FUNCTION hsm_refuse('{HOLD_CHANGE}')",
        *_refusals("hold", "DELETE", HOLD_DELETE),
        *_refusals("activation", "UPDATE OR DELETE", ACTIVATION),
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


# Whoever places a hold locks the study's packages, and whoever releases a copy locks its package before
# it looks: so a release sees the hold, or the hold comes after a release that was agreed already.
_HOLD_GUARD = f"""
IF {_LEAVES.format(old="(CASE WHEN TG_OP = 'UPDATE' THEN OLD.state ELSE '' END)")} THEN
    PERFORM 1 FROM package WHERE pk = NEW.package_pk FOR NO KEY UPDATE;
    IF {_HELD} THEN
        RAISE EXCEPTION '{COPY_HELD}' USING ERRCODE = '23000';
    END IF;
END IF;
RETURN NEW;"""

_HOLD_PLACED = """
PERFORM 1 FROM package WHERE study_pk = NEW.study_pk ORDER BY pk FOR NO KEY UPDATE;
RETURN NEW;"""
