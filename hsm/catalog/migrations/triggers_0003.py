"""What the third schema forbids besides: a volume that holds copies is not recycled and keeps its label.

Every refusal is an integrity error on both databases, as in the first schema. Frozen with its migration.
"""

from __future__ import annotations

LIVE = "('writing', 'written', 'verified', 'suspect', 'releasing')"
"""States of copies that stand for bytes on a volume."""

RECYCLED = "a volume that holds copies cannot be recycled; release or repack them first"
LABEL = "a volume that holds copies keeps its label"

_LEAVES = "NEW.state IN ('recycled', 'scratch') AND OLD.state NOT IN ('recycled', 'scratch')"
_RELABELLED = "NEW.uuid <> OLD.uuid"
_COPIES = f"EXISTS (SELECT 1 FROM copy WHERE volume_pk = NEW.pk AND state IN {LIVE})"


def statements(dialect: str) -> list[str]:
    """The DDL for ``sqlite`` or ``postgresql``, in order."""
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER {name} BEFORE UPDATE OF {column} ON volume WHEN ({condition}) AND {_COPIES}"
            f" BEGIN SELECT RAISE(ABORT, 'volume: {message}'); END"
            for name, column, condition, message in (
                ("volume_recycled", "state", _LEAVES, RECYCLED),
                ("volume_label", "uuid", _RELABELLED, LABEL),
            )
        ]
    return [
        f"CREATE FUNCTION hsm_volume_reuse() RETURNS trigger LANGUAGE plpgsql AS $$\nBEGIN\n{_GUARD}\nEND $$",
        "CREATE TRIGGER volume_reuse BEFORE UPDATE OF state, uuid ON volume FOR EACH ROW"
        f" WHEN (({_LEAVES}) OR {_RELABELLED}) EXECUTE FUNCTION hsm_volume_reuse()",
    ]


# As in the first schema: only what others have committed counts, and new copies wait outside.
_GUARD = f"""
IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'volume %: only under READ COMMITTED, an older snapshot would hide copies', NEW.name
        USING ERRCODE = '23000';
END IF;
LOCK TABLE copy IN SHARE ROW EXCLUSIVE MODE;
IF {_COPIES} THEN
    IF NEW.uuid <> OLD.uuid THEN
        RAISE EXCEPTION 'volume %: {LABEL}', NEW.name USING ERRCODE = '23000';
    END IF;
    RAISE EXCEPTION 'volume %: {RECYCLED}', NEW.name USING ERRCODE = '23000';
END IF;
RETURN NEW;"""
