"""What policies ask and remember: placements, words, holds, accesses, activations, runs that go on."""

import sqlalchemy as sa
from alembic import op

from hsm.catalog.migrations import backfill_0002, triggers_0002

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# SQLite gives out row ids only for INTEGER PRIMARY KEY.
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)
DIGEST = sa.LargeBinary(length=32)
# In code point order, as on SQLite, whatever the locale.
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

_KINDS = "kind IN ('seal', 'copy', 'verify', 'recall', 'release', 'deliver')"
_KINDS_NOW = "kind IN ('seal', 'copy', 'verify', 'recall', 'release', 'deliver', 'export')"
_RUN_STATES = "state IN ('running', 'suspended', 'finished', 'abandoned')"


def upgrade() -> None:
    _placement()
    _words()
    _hold()
    _access()
    _activation()
    _study()
    _run()
    _request()
    op.add_column("decision", sa.Column("outcome", TEXT, nullable=False, server_default="request"))
    backfill_0002.fill(op.get_bind())
    # Indexes last: what is filled in first builds them once.
    _indexes()
    for statement in triggers_0002.statements(op.get_bind().dialect.name):
        op.execute(statement)


def _placement() -> None:
    op.create_table(
        "placement",
        sa.Column("pk", sa.Integer(), nullable=False),
        sa.Column("pattern", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_placement")),
        sa.UniqueConstraint("pattern", name=op.f("uq_placement_pattern")),
    )
    op.create_table(
        "placement_pool",
        sa.Column("placement_pk", sa.Integer(), nullable=False),
        sa.Column("package", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("pool", TEXT, nullable=False),
        sa.Column("verified", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["placement_pk"], ["placement.pk"], name=op.f("fk_placement_pool_placement_pk")
        ),
        sa.PrimaryKeyConstraint("placement_pk", "package", "pool", name=op.f("pk_placement_pool")),
    )


def _words() -> None:
    op.create_table(
        "word_set",
        sa.Column("pk", sa.Integer(), nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_word_set")),
        sa.UniqueConstraint("digest", name=op.f("uq_word_set_digest")),
    )
    op.create_table(
        "word",
        sa.Column("set_pk", sa.Integer(), nullable=False),
        sa.Column("text", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["set_pk"], ["word_set.pk"], name=op.f("fk_word_set_pk")),
        sa.PrimaryKeyConstraint("set_pk", "text", name=op.f("pk_word")),
    )


def _hold() -> None:
    op.create_table(
        "hold",
        sa.Column("pk", KEY, nullable=False),
        sa.Column("study_pk", KEY, nullable=False),
        sa.Column("placed_at", TIME, nullable=False),
        sa.Column("placed_by", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("lifted_at", TIME, nullable=True),
        sa.Column("lifted_by", TEXT, nullable=False),
        sa.Column("lifted_reason", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["study_pk"], ["study.pk"], name=op.f("fk_hold_study_pk")),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_hold")),
    )
    _index("uq_hold_standing", "hold", ["study_pk"], "lifted_at IS NULL", unique=True)


def _access() -> None:
    op.create_table(
        "access",
        sa.Column("pk", KEY, nullable=False),
        sa.Column("study_pk", KEY, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("waited_seconds", sa.Float(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("daily", sa.Boolean(), nullable=False),
        sa.Column("ae", TEXT, nullable=False),
        sa.Column("tier", TEXT, nullable=False),
        sa.CheckConstraint("kind IN ('retrieve', 'query')", name=op.f("ck_access_kind")),
        sa.ForeignKeyConstraint(["study_pk"], ["study.pk"], name=op.f("fk_access_study_pk")),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_access")),
    )
    op.create_index("ix_access_study", "access", ["study_pk", "at"])
    op.create_index("ix_access_at", "access", ["at", "pk"])
    _index("uq_access_query", "access", ["study_pk", "at"], "kind = 'query'", unique=True)
    _index("ix_access_detail", "access", ["at"], "NOT daily")


def _activation() -> None:
    op.create_table(
        "activation",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("comment", TEXT, nullable=False),
        sa.Column("texts", sa.JSON(), nullable=False),
        sa.Column("restores", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_activation")),
    )


def _study() -> None:
    for name in ("body_parts", "stations", "sop_classes", "tags"):
        _refer("study", name, "word_set", "pk")
    _refer("study", "placement_pk", "placement", "pk")
    op.add_column("study", sa.Column("retain_until", TEXT, nullable=False, server_default=""))
    op.add_column("study", sa.Column("recalls", sa.Integer(), nullable=False, server_default="0"))


def _run() -> None:
    _refer("run", "activation", "activation", "number")
    # Named in the same statement: SQLite adds a CHECK only with its column.
    text = 'TEXT COLLATE "C"' if op.get_bind().dialect.name == "postgresql" else "TEXT"
    op.execute(
        f"ALTER TABLE run ADD COLUMN state {text} DEFAULT 'finished' NOT NULL"
        f" CONSTRAINT ck_run_state CHECK ({_RUN_STATES})"
    )
    columns = (
        sa.Column("actor", TEXT, nullable=False, server_default=""),
        sa.Column("errors", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("bytes", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("position", sa.JSON(), nullable=False, server_default="{}"),
        sa.Column("message", TEXT, nullable=False, server_default=""),
        sa.Column("worker", TEXT, nullable=False, server_default=""),
        sa.Column("moved_at", TIME, nullable=True),
    )
    for column in columns:
        op.add_column("run", column)


def _request() -> None:
    """More kinds of requests. SQLite cannot change a CHECK, and to rebuild the table would cost its
    waiters: a CHECK that lets more through may be put into the schema as it stands
    (https://sqlite.org/lang_altertable.html, "Making Other Kinds Of Table Schema Changes")."""
    bind = op.get_bind()
    if bind.dialect.name == "postgresql":
        op.execute("ALTER TABLE request DROP CONSTRAINT ck_request_kind")
        op.execute(f"ALTER TABLE request ADD CONSTRAINT ck_request_kind CHECK ({_KINDS_NOW})")
        return
    bind.exec_driver_sql("PRAGMA writable_schema = ON")
    changed = bind.exec_driver_sql(
        "UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE type = 'table' AND name = 'request'"
        " AND instr(sql, ?) > 0",
        (_KINDS, _KINDS_NOW, _KINDS),
    ).rowcount
    bind.exec_driver_sql("PRAGMA writable_schema = RESET")
    if changed != 1:
        raise RuntimeError(f"the table request has no CHECK ({_KINDS}): it is not of the first schema")


def _indexes() -> None:
    _index(
        "ix_study_placed",
        "study",
        ["placement_pk", "last_accessed", "pk"],
        "placement_pk IS NOT NULL",
    )
    _index("ix_study_tags", "study", ["tags"], "tags IS NOT NULL")
    op.create_index("ix_study_arrival", "study", ["first_received", "pk"])
    op.create_index("ix_run_policy", "run", ["policy", "pk"])
    _index("uq_run_unfinished", "run", ["policy"], "finished_at IS NULL", unique=True)


def _refer(table: str, column: str, other: str, key: str) -> None:
    """Add a nullable column with its foreign key, in one statement: SQLite has no other way."""
    op.execute(
        f"ALTER TABLE {table} ADD COLUMN {column} INTEGER"
        f" CONSTRAINT fk_{table}_{column} REFERENCES {other} ({key})"
    )


def _index(name: str, table: str, columns: list[str], condition: str, *, unique: bool = False) -> None:
    only = sa.text(condition)
    op.create_index(name, table, columns, unique=unique, postgresql_where=only, sqlite_where=only)
