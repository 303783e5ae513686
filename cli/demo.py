"""``hsm demo``: a guided tour."""

from __future__ import annotations


def demo() -> None:
    """A guided tour on synthetic studies."""
