"""How many examples Hypothesis tries where each costs much: few in the suite, more with HSM_EXAMPLES.

`make search` tries ten times as many as the suite.
"""

from __future__ import annotations

import os

TIMES = int(os.environ.get("HSM_EXAMPLES", "1"))


def examples(number: int) -> int:
    """:param number: of the suite."""
    return number * TIMES
