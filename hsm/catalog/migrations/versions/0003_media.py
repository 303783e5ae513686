"""Media: the life of a volume, what it said it is, drives, and what each did with each cartridge."""

import sqlalchemy as sa
from alembic import op

from hsm.catalog.migrations import triggers_0003

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

_STATES = "state IN ('scratch', 'labelled', 'active', 'full', 'suspect', 'retired', 'lost')"
_STATES_NOW = (
    "state IN ('scratch', 'foreign', 'labelled', 'active', 'full', 'suspect', 'recycled', 'retired', 'lost')"
)


def upgrade() -> None:
    _volume()
    _drive()
    _drive_use()
    for statement in triggers_0003.statements(op.get_bind().dialect.name):
        op.execute(statement)


def _volume() -> None:
    """More states, as :mod:`0002_policies` gave requests more kinds, and what a volume said it is."""
    bind = op.get_bind()
    if bind.dialect.name == "postgresql":
        op.execute("ALTER TABLE volume DROP CONSTRAINT ck_volume_state")
        op.execute(f"ALTER TABLE volume ADD CONSTRAINT ck_volume_state CHECK ({_STATES_NOW})")
    else:
        _widen(bind)
    # Named in the same statement: SQLite adds a CHECK only with its column.
    text = 'TEXT COLLATE "C"' if bind.dialect.name == "postgresql" else "TEXT"
    op.execute(
        f"ALTER TABLE volume ADD COLUMN drain_to {text} DEFAULT '' NOT NULL"
        " CONSTRAINT ck_volume_drain_to CHECK (drain_to IN ('', 'recycled', 'retired'))"
    )
    op.add_column("volume", sa.Column("worm", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("volume", sa.Column("content", TEXT, nullable=False, server_default=""))
    op.add_column("volume", sa.Column("looked_at", TIME, nullable=True))


def _widen(bind: sa.Connection) -> None:
    """A CHECK that lets more through may be put into SQLite's schema as it stands
    (https://sqlite.org/lang_altertable.html, "Making Other Kinds Of Table Schema Changes")."""
    bind.exec_driver_sql("PRAGMA writable_schema = ON")
    changed = bind.exec_driver_sql(
        "UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE type = 'table' AND name = 'volume'"
        " AND instr(sql, ?) > 0",
        (_STATES, _STATES_NOW, _STATES),
    ).rowcount
    bind.exec_driver_sql("PRAGMA writable_schema = RESET")
    if changed != 1:
        raise RuntimeError(f"the table volume has no CHECK ({_STATES}): it is not of the first schema")


def _drive() -> None:
    op.create_table(
        "drive",
        sa.Column("pk", KEY, nullable=False),
        sa.Column("library", TEXT, nullable=False),
        sa.Column("address", sa.Integer(), nullable=False),
        sa.Column("in_service", sa.Boolean(), nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("changed_at", TIME, nullable=False),
        sa.Column("changed_by", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_drive")),
        sa.UniqueConstraint("library", "address", name=op.f("uq_drive_library_address")),
    )


def _drive_use() -> None:
    op.create_table(
        "drive_use",
        sa.Column("drive_pk", KEY, nullable=False, autoincrement=False),
        sa.Column("volume_pk", KEY, nullable=False, autoincrement=False),
        sa.Column("sessions", sa.Integer(), nullable=False),
        sa.Column("writes", sa.Integer(), nullable=False),
        sa.Column("reads", sa.Integer(), nullable=False),
        sa.Column("bytes_written", sa.BigInteger(), nullable=False),
        sa.Column("bytes_read", sa.BigInteger(), nullable=False),
        sa.Column("soft_errors", sa.BigInteger(), nullable=False),
        sa.Column("hard_errors", sa.Integer(), nullable=False),
        sa.Column("alerts", sa.Integer(), nullable=False),
        sa.Column("failing", sa.Integer(), nullable=False),
        sa.Column("last_at", TIME, nullable=False),
        sa.Column("last_error", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["drive_pk"], ["drive.pk"], name=op.f("fk_drive_use_drive_pk")),
        sa.ForeignKeyConstraint(["volume_pk"], ["volume.pk"], name=op.f("fk_drive_use_volume_pk")),
        sa.PrimaryKeyConstraint("drive_pk", "volume_pk", name=op.f("pk_drive_use")),
    )
    op.create_index(op.f("ix_drive_use_volume_pk"), "drive_use", ["volume_pk"])
