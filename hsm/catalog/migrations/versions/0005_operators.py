"""Operators: how mount requests are answered, what is sent about them, and cartridges on their way.
What peers were told of how available studies are. How long drives took for what, and prefetches."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

_OUTCOMES = (
    "'', 'done', 'refused', 'cannot find', 'damaged', 'wrong site', 'substituted', 'unanswered', 'not needed'"
)

_KINDS = "kind IN ('seal', 'copy', 'verify', 'recall', 'release', 'deliver', 'export', 'commit')"
_KINDS_NOW = (
    "kind IN ('seal', 'copy', 'verify', 'recall', 'release', 'deliver', 'export', 'commit', 'notify')"
)


def upgrade() -> None:
    _volume()
    _mount_request()
    _notice()
    _movement()
    _announced()
    _timing()
    _prefetch()


def _volume() -> None:
    op.add_column("volume", sa.Column("site", TEXT, nullable=False, server_default=""))
    op.add_column("volume", sa.Column("home", TEXT, nullable=False, server_default=""))
    op.execute("UPDATE volume SET home = shelf WHERE shelf <> ''")


def _mount_request() -> None:
    text = 'TEXT COLLATE "C"' if op.get_bind().dialect.name == "postgresql" else "TEXT"
    op.add_column("mount_request", sa.Column("acked_at", TIME, nullable=True))
    op.add_column("mount_request", sa.Column("acked_by", TEXT, nullable=False, server_default=""))
    op.add_column("mount_request", sa.Column("acked_until", TIME, nullable=True))
    # Each named in one statement with its column: SQLite adds constraints only so.
    op.execute(
        f"ALTER TABLE mount_request ADD COLUMN outcome {text} DEFAULT '' NOT NULL"
        f" CONSTRAINT ck_mount_request_outcome CHECK (outcome IN ({_OUTCOMES}))"
    )
    key = "BIGINT" if op.get_bind().dialect.name == "postgresql" else "INTEGER"
    op.execute(
        f"ALTER TABLE mount_request ADD COLUMN instead_pk {key}"
        " CONSTRAINT fk_mount_request_instead_pk REFERENCES volume (pk)"
    )
    op.add_column("mount_request", sa.Column("note", TEXT, nullable=False, server_default=""))


def _notice() -> None:
    op.create_table(
        "notice",
        sa.Column("pk", KEY, nullable=False),
        sa.Column("mount_pk", KEY, nullable=False),
        sa.Column("step", TEXT, nullable=False),
        sa.Column("channel", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("sent", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.Column("last_at", TIME, nullable=True),
        sa.Column("next_at", TIME, nullable=False),
        sa.Column("error", TEXT, nullable=False),
        sa.CheckConstraint("state IN ('pending', 'sent', 'failed')", name=op.f("ck_notice_state")),
        sa.ForeignKeyConstraint(
            ["mount_pk"], ["mount_request.pk"], name=op.f("fk_notice_mount_pk"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_notice")),
        sa.UniqueConstraint("mount_pk", "step", name=op.f("uq_notice_mount_pk_step")),
    )


def _movement() -> None:
    op.create_table(
        "movement",
        sa.Column("pk", KEY, nullable=False),
        sa.Column("list_number", sa.Integer(), nullable=False),
        sa.Column("volume_pk", KEY, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("origin", TEXT, nullable=False),
        sa.Column("library", TEXT, nullable=False),
        sa.Column("site", TEXT, nullable=False),
        sa.Column("shelf", TEXT, nullable=False),
        sa.Column("planned_at", TIME, nullable=False),
        sa.Column("planned_by", TEXT, nullable=False),
        sa.Column("left_at", TIME, nullable=True),
        sa.Column("left_by", TEXT, nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("ended_by", TEXT, nullable=False),
        sa.Column("comment", TEXT, nullable=False),
        sa.CheckConstraint("kind IN ('export', 'return')", name=op.f("ck_movement_kind")),
        sa.CheckConstraint(
            "state IN ('planned', 'left', 'arrived', 'undone')", name=op.f("ck_movement_state")
        ),
        sa.CheckConstraint(
            "(state IN ('arrived', 'undone')) = (ended_at IS NOT NULL)", name=op.f("ck_movement_ended")
        ),
        sa.CheckConstraint(
            "state IN ('planned', 'undone') OR left_at IS NOT NULL", name=op.f("ck_movement_left")
        ),
        sa.ForeignKeyConstraint(["volume_pk"], ["volume.pk"], name=op.f("fk_movement_volume_pk")),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_movement")),
    )
    op.create_index(op.f("ix_movement_volume_pk"), "movement", ["volume_pk"])
    op.create_index(
        "uq_movement_open",
        "movement",
        ["volume_pk"],
        unique=True,
        postgresql_where=sa.text("state IN ('planned', 'left')"),
        sqlite_where=sa.text("state IN ('planned', 'left')"),
    )


def _announced() -> None:
    bind = op.get_bind()
    if bind.dialect.name == "postgresql":
        op.execute("ALTER TABLE request DROP CONSTRAINT ck_request_kind")
        op.execute(f"ALTER TABLE request ADD CONSTRAINT ck_request_kind CHECK ({_KINDS_NOW})")
    else:
        _widen(bind)
    op.create_table(
        "announced",
        sa.Column("study_pk", KEY, nullable=False),
        sa.Column("picture", TEXT, nullable=False),
        sa.Column("staged", sa.Boolean(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["study_pk"], ["study.pk"], name=op.f("fk_announced_study_pk"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("study_pk", name=op.f("pk_announced")),
    )
    op.create_index(
        "ix_announced_staged",
        "announced",
        ["study_pk"],
        postgresql_where=sa.text("staged"),
        sqlite_where=sa.text("staged"),
    )
    op.create_table(
        "followed",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_followed")),
    )


def _widen(bind: sa.Connection) -> None:
    """As :mod:`0003_media` widened the states of volumes."""
    bind.exec_driver_sql("PRAGMA writable_schema = ON")
    changed = bind.exec_driver_sql(
        "UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE type = 'table' AND name = 'request'"
        " AND instr(sql, ?) > 0",
        (_KINDS, _KINDS_NOW, _KINDS),
    ).rowcount
    bind.exec_driver_sql("PRAGMA writable_schema = RESET")
    if changed != 1:
        raise RuntimeError(f"the table request has no CHECK ({_KINDS}): it is not of the fourth schema")


def _timing() -> None:
    op.create_table(
        "timing",
        sa.Column("pk", KEY, nullable=False),
        sa.Column("library", TEXT, nullable=False),
        sa.Column("drive", sa.Integer(), nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("expected", sa.Float(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.CheckConstraint("kind IN ('mount', 'locate', 'read')", name=op.f("ck_timing_kind")),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_timing")),
    )
    op.create_index("ix_timing_kind", "timing", ["library", "kind", "pk"])


def _prefetch() -> None:
    op.create_table(
        "prefetch",
        sa.Column("pk", KEY, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("wanted", sa.JSON(), nullable=False),
        sa.Column("begins_at", TIME, nullable=False),
        sa.Column("deadline", TIME, nullable=False),
        sa.Column("requested_by", TEXT, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("found", sa.JSON(), nullable=False),
        sa.Column("comment", TEXT, nullable=False),
        sa.CheckConstraint("state IN ('planned', 'asked', 'withdrawn')", name=op.f("ck_prefetch_state")),
        sa.CheckConstraint("begins_at <= deadline", name=op.f("ck_prefetch_begins_at")),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_prefetch")),
        sa.UniqueConstraint("key", name=op.f("uq_prefetch_key")),
    )
    op.create_index("ix_prefetch_begins", "prefetch", ["state", "begins_at"])
