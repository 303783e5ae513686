"""Alembic migrations of the catalog, run by :mod:`hsm.catalog.upgrade` only."""
