"""`hsm policy simulate`: a history, hardware and policies brought together and simulated.

`run` is what the command line calls; `source` says where a history comes from (the catalog, a file, the
generator), `hardware` makes a site of the configuration. The simulator itself is :mod:`policies.whatif`.
"""

from collections.abc import Sequence
from pathlib import Path

from hsm.whatif.run import Question, Simulated, simulate
from hsm.whatif.source import WhatIfError
from policies.whatif import plot
from policies.whatif.report import Report
from policies.whatif.synthetic import Hospital

__all__ = [
    "Hospital",
    "Question",
    "Report",
    "Simulated",
    "WhatIfError",
    "draw",
    "require_plotting",
    "simulate",
]


def require_plotting() -> None:
    """:raises WhatIfError: matplotlib is not installed; ask before a long simulation."""
    try:
        plot.require_plotting()
    except plot.PlottingMissing as error:
        raise WhatIfError(str(error)) from error


def draw(reports: Sequence[Report], folder: Path) -> list[Path]:
    """Pictures of the reports; see :func:`policies.whatif.plot.draw`. :raises WhatIfError:"""
    try:
        return plot.draw(reports, folder)
    except (plot.PlottingMissing, OSError) as error:
        raise WhatIfError(f"{folder}: {error}") from error
