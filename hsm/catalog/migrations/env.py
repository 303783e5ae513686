"""How Alembic runs the migrations: on the connection that :mod:`hsm.catalog.upgrade` passes in.

That connection is in a transaction and holds the upgrade lock; Alembic must neither open another
one nor commit it.
"""

from alembic import context

from hsm.catalog.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite rolls DDL back as well as PostgreSQL does; Alembic assumes that it does not.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
