"""Records of what people say of studies are found without looking through the whole journal."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

MARKED = (
    "verb IN ('deleted', 'undeleted', 'deletion due', 'purged', 'rejected', 'rejection revoked', "
    "'hold placed', 'hold lifted', 'tagged', 'untagged', 'retention ended', 'marks found') "
    "OR verb >= 'retained until' AND verb < 'retained untim'"
)


def upgrade() -> None:
    only = sa.text(MARKED)
    op.create_index("ix_journal_marked", "journal", ["seq"], postgresql_where=only, sqlite_where=only)
