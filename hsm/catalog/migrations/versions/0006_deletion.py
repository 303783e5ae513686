"""Deletion: studies in the trash, rejected instances, and what lets a last copy go. Commands that wait for a
second person. Copies that are to be read back next."""

import sqlalchemy as sa
from alembic import op

from hsm.catalog.migrations import triggers_0006

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    _deletion()
    _hidden()
    _approval()
    _fixity()
    for statement in triggers_0006.statements(op.get_bind().dialect.name):
        op.execute(statement)


def _deletion() -> None:
    op.create_table(
        "deletion",
        sa.Column("pk", KEY, nullable=False),
        sa.Column("study_pk", KEY, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("code", TEXT, nullable=False),
        sa.Column("note", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("made_at", TIME, nullable=False),
        sa.Column("made_by", TEXT, nullable=False),
        sa.Column("approved_by", TEXT, nullable=False),
        sa.Column("due_at", TIME, nullable=True),
        sa.Column("refuses", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("checked_at", TIME, nullable=True),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("ended_by", TEXT, nullable=False),
        sa.Column("ended_reason", TEXT, nullable=False),
        sa.CheckConstraint("kind IN ('trash', 'rejection')", name=op.f("ck_deletion_kind")),
        sa.CheckConstraint(
            "state IN ('standing', 'due', 'undone', 'purged')", name=op.f("ck_deletion_state")
        ),
        sa.CheckConstraint(
            "(state IN ('undone', 'purged')) = (ended_at IS NOT NULL)", name=op.f("ck_deletion_ended")
        ),
        sa.CheckConstraint("(kind = 'trash') = (due_at IS NOT NULL)", name=op.f("ck_deletion_due_at")),
        sa.CheckConstraint(
            "kind = 'trash' OR state IN ('standing', 'undone')", name=op.f("ck_deletion_rejected")
        ),
        sa.ForeignKeyConstraint(["study_pk"], ["study.pk"], name=op.f("fk_deletion_study_pk")),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_deletion")),
    )
    op.create_index(op.f("ix_deletion_study_pk"), "deletion", ["study_pk"])
    in_trash = sa.text("kind = 'trash' AND ended_at IS NULL")
    for name, column, unique in (
        ("uq_deletion_trash", "study_pk", True),
        ("ix_deletion_due", "due_at", False),
    ):
        op.create_index(
            name,
            "deletion",
            [column],
            unique=unique,
            postgresql_where=in_trash,
            sqlite_where=in_trash,
        )


def _hidden() -> None:
    for table, column, key in (
        ("hidden_instance", "instance_pk", "instance"),
        ("deleted_package", "package_pk", "package"),
    ):
        kind = sa.Integer() if table == "deleted_package" else KEY
        op.create_table(
            table,
            sa.Column(column, kind, nullable=False),
            sa.Column("deletion_pk", KEY, nullable=False),
            sa.ForeignKeyConstraint([column], [f"{key}.pk"], name=op.f(f"fk_{table}_{column}")),
            sa.ForeignKeyConstraint(["deletion_pk"], ["deletion.pk"], name=op.f(f"fk_{table}_deletion_pk")),
            sa.PrimaryKeyConstraint(column, "deletion_pk", name=op.f(f"pk_{table}")),
        )
        op.create_index(f"ix_{table}_deletion_pk", table, ["deletion_pk"])


def _approval() -> None:
    op.create_table(
        "approval",
        sa.Column("pk", KEY, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("command", TEXT, nullable=False),
        sa.Column("asked", TEXT, nullable=False),
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("asked_at", TIME, nullable=False),
        sa.Column("asked_by", TEXT, nullable=False),
        sa.Column("asked_person", TEXT, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("decided_at", TIME, nullable=True),
        sa.Column("decided_by", TEXT, nullable=False),
        sa.Column("decided_person", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("outcome", TEXT, nullable=False),
        sa.CheckConstraint(
            "state IN ('waiting', 'refused', 'approved', 'done', 'failed')", name=op.f("ck_approval_state")
        ),
        sa.CheckConstraint("(state = 'waiting') = (decided_at IS NULL)", name=op.f("ck_approval_decided")),
        sa.CheckConstraint(
            "state IN ('waiting', 'refused') OR decided_person <> asked_person",
            name=op.f("ck_approval_persons"),
        ),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_approval")),
    )
    op.create_index(op.f("ix_approval_asked_at"), "approval", ["asked_at"])


def _fixity() -> None:
    for name, state, columns in (
        ("ix_copy_verified", "verified", ["volume_pk", "verified_at"]),
        ("ix_copy_suspect", "suspect", ["pk"]),
    ):
        only = sa.text(f"state = '{state}'")
        op.create_index(name, "copy", columns, postgresql_where=only, sqlite_where=only)
