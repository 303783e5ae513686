"""The catalog: tables and queries. Nobody else writes SQL.

:class:`hsm.catalog.engine.Catalog` opens transactions; each other module here is a set of
functions that take its :class:`~sqlalchemy.orm.Session`.
"""
