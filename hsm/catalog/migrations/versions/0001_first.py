"""The first schema: every table, the journal's head, and the triggers."""

from alembic import op
from sqlalchemy import LargeBinary, column, table

from hsm.catalog.migrations import triggers_0001
from hsm.catalog.tables import Base

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    Base.metadata.create_all(op.get_bind())
    # The chain starts from 32 zero bytes.
    head = table("journal_head", column("pk"), column("seq"), column("digest", LargeBinary))
    op.bulk_insert(head, [{"pk": 1, "seq": 0, "digest": bytes(32)}])
    for statement in triggers_0001.statements(op.get_bind().dialect.name):
        op.execute(statement)
