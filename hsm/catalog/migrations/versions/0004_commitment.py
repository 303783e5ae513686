"""A kind of request more: storage commitment."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_KINDS = "kind IN ('seal', 'copy', 'verify', 'recall', 'release', 'deliver', 'export')"
_KINDS_NOW = "kind IN ('seal', 'copy', 'verify', 'recall', 'release', 'deliver', 'export', 'commit')"


def upgrade() -> None:
    """As :mod:`0003_media` widened the states of volumes."""
    bind = op.get_bind()
    if bind.dialect.name == "postgresql":
        op.execute("ALTER TABLE request DROP CONSTRAINT ck_request_kind")
        op.execute(f"ALTER TABLE request ADD CONSTRAINT ck_request_kind CHECK ({_KINDS_NOW})")
    else:
        _widen(bind)


def _widen(bind: sa.Connection) -> None:
    bind.exec_driver_sql("PRAGMA writable_schema = ON")
    changed = bind.exec_driver_sql(
        "UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE type = 'table' AND name = 'request'"
        " AND instr(sql, ?) > 0",
        (_KINDS, _KINDS_NOW, _KINDS),
    ).rowcount
    bind.exec_driver_sql("PRAGMA writable_schema = RESET")
    if changed != 1:
        raise RuntimeError(f"the table request has no CHECK ({_KINDS}): it is not of the third schema")
