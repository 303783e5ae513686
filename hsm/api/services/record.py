"""What the daemon answers the API with."""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]
"""Plain values, enumerations and aware datetimes."""
