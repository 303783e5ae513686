"""Records of what people say of studies, and of what became of copies since a time, are found without looking
through the whole journal; what rejection notes name and has not come yet."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

MARKED = (
    "verb IN ('deleted', 'undeleted', 'deletion due', 'purged', 'rejected', 'rejected on arrival', "
    "'rejection revoked', 'hold placed', 'hold lifted', 'tagged', 'untagged', "
    "'retention ended', 'marks found') "
    "OR verb >= 'retained until' AND verb < 'retained untim'"
)
ABOUT_COPIES = "verb >= 'copy ' AND verb < 'copy!'"
TIME = sa.DateTime(timezone=True)
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    _awaited_rejection()
    only = sa.text(MARKED)
    op.create_index("ix_journal_marked", "journal", ["seq"], postgresql_where=only, sqlite_where=only)
    only = sa.text(ABOUT_COPIES)
    op.create_index("ix_journal_copies", "journal", ["at"], postgresql_where=only, sqlite_where=only)


def _awaited_rejection() -> None:
    table = "awaited_rejection"
    op.create_table(
        table,
        sa.Column("uid", sa.LargeBinary(65), nullable=False),
        sa.Column("study_uid", TEXT, nullable=False),
        sa.Column("series_uid", TEXT, nullable=False),
        sa.Column("note", TEXT, nullable=False),
        sa.Column("code", TEXT, nullable=False),
        sa.Column("made_at", TIME, nullable=False),
        sa.Column("made_by", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("uid", "series_uid", "study_uid", "note", name=op.f(f"pk_{table}")),
    )
    op.create_index(op.f(f"ix_{table}_study_uid"), table, ["study_uid"])
