"""Statements for the hot path: compiled once, run on the driver's own cursor.

SQLAlchemy's way from a statement to the driver costs ten times what SQLite needs for a one-row
statement. What is compiled here are the same statements, with the same column types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.sql.base import Executable


class Prepared:
    """One statement with named parameters."""

    def __init__(self, statement: Executable, dialect: Dialect) -> None:
        compiled: Any = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        self.sql = str(compiled)
        names = compiled.positiontup if compiled.positional else list(compiled.binds)
        self._positional = bool(compiled.positional)
        self._binds: list[tuple[str, Callable[[Any], Any] | None, Any]] = []
        for name in names:
            bind = compiled.binds[name]
            process = bind.type.dialect_impl(dialect).bind_processor(dialect)
            self._binds.append((name, process, None if bind.required else bind.value))

    def run(self, cursor: Any, values: Mapping[str, Any]) -> Any:
        """Execute it; the cursor.

        :raises KeyError: a parameter is missing.
        """
        made = [
            (process(value) if process is not None else value)
            for value, process in (
                (values[name] if default is None else default, process)
                for name, process, default in self._binds
            )
        ]
        if self._positional:
            cursor.execute(self.sql, made)
        else:
            names = (name for name, _, _ in self._binds)
            cursor.execute(self.sql, dict(zip(names, made, strict=True)))
        return cursor
