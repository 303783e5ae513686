"""Pictures of reports: PNG files, and one page of HTML that needs nothing beside it.

Matplotlib is an optional dependency (the extra ``plot``); it is imported when something is drawn.
"""

from __future__ import annotations

import base64
import html
import importlib.util
import io
import warnings
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policies.whatif.report import PLACE_WORDS, Report, say_rate, say_seconds
from policies.whatif.tally import PLACES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Of policies; told apart with every kind of colour vision (Okabe and Ito)."""
PLACE_COLOURS = ("#1b7837", "#7fbf7b", "#d9f0d3", "#e7d4e8", "#af8dc3", "#762a83")
"""Of places, from quick to slow."""
DPI = 110
WEEK = 7


class PlottingMissing(RuntimeError):
    """Matplotlib is not installed."""

    def __init__(self) -> None:
        super().__init__("pictures need matplotlib: pip install 'hsm-archive[plot]'")


def require_plotting() -> None:
    """:raises PlottingMissing: pictures cannot be drawn; ask before a long simulation."""
    if importlib.util.find_spec("matplotlib") is None:
        raise PlottingMissing


def draw(reports: Sequence[Report], folder: Path) -> list[Path]:
    """Write ``capacity.png``, ``hits.png``, ``recalls.png``, ``latency.png``, ``protection.png``,
    ``cost.png`` and ``simulation.html``; returns their paths.

    :raises PlottingMissing: matplotlib is not installed.
    :raises OSError: the folder cannot be made or written.
    """
    require_plotting()
    folder.mkdir(parents=True, exist_ok=True)
    pictures: list[tuple[str, str, Callable[[Sequence[Report]], Figure]]] = [
        ("capacity", "What lies in each pool", _capacity),
        ("hits", "Where retrieves were served from", _hits),
        ("recalls", "Recalls and mounts a day", _recalls),
        ("latency", "How long a recall takes", _latency),
        ("protection", "How long studies had fewer copies than their goals", _protection),
        ("cost", "Cost", _cost),
    ]
    written: list[Path] = []
    shown: list[tuple[str, bytes]] = []
    for name, title, make in pictures:
        image = _png(make(reports))
        path = folder / f"{name}.png"
        path.write_bytes(image)
        written.append(path)
        shown.append((title, image))
    page = folder / "simulation.html"
    page.write_text(_page(reports, shown), "utf-8")
    return [*written, page]


def _figure(width: float, height: float, rows: int = 1) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure as Made  # without pyplot: no window, no global state

    figure = Made(figsize=(width, height), layout="constrained")
    axes: Any = figure.subplots(rows, 1, squeeze=False)
    for (each,) in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(axis="y", color="#dddddd", linewidth=0.6)
        each.set_axisbelow(True)
    return figure, [each for (each,) in axes]


def _png(figure: Figure) -> bytes:
    packed = io.BytesIO()
    with warnings.catch_warnings():
        # A policy's name in a script that the font has not is drawn as boxes; the page says it in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(packed, format="png", dpi=DPI, metadata={"Software": ""})
    return packed.getvalue()


def _days(report: Report) -> Any:
    begin = datetime.fromisoformat(report.begin)
    return [begin + timedelta(days=number) for number in range(len(report.days))]


def _plain(name: str) -> str:
    """A name as matplotlib shows it: no formula between dollar signs, no hidden entry in the legend."""
    return name.replace("$", r"\$").lstrip("_") or "-"


def _capacity(reports: Sequence[Report]) -> Figure:
    names = [pool.name for pool in reports[0].pools]
    figure, axes = _figure(9, 2.3 * len(names), len(names))
    for axis, name in zip(axes, names, strict=True):
        for report, colour in zip(reports, _cycle(), strict=False):
            used = [day.used.get(name, 0) / 1e12 for day in report.days]
            axis.plot(_days(report), used, color=colour, label=_plain(report.name), linewidth=1.4)
        pool = next(pool for pool in reports[0].pools if pool.name == name)
        if not pool.volumes and pool.capacity:
            axis.axhline(pool.capacity / 1e12, color="#999999", linestyle="--", linewidth=0.9)
        axis.set_ylim(bottom=0)
        axis.set_ylabel("TB")
        axis.set_title(_plain(name), loc="left", fontsize=10)
    axes[0].legend(frameon=False, fontsize=9)
    return figure


def _hits(reports: Sequence[Report]) -> Figure:
    figure, (axis,) = _figure(9, 1.4 + 0.6 * len(reports))
    places = range(len(reports))
    left = [0.0] * len(reports)
    for place, colour in zip(PLACES, PLACE_COLOURS, strict=True):
        widths = [100 * report.hit_rate(place) for report in reports]
        axis.barh(places, widths, left=left, color=colour, label=PLACE_WORDS[place], edgecolor="white")
        left = [base + width for base, width in zip(left, widths, strict=True)]
    axis.set_yticks(list(places), [_plain(report.name) for report in reports])
    axis.invert_yaxis()
    axis.set_xlabel("% of all retrieves")
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    return figure


def _recalls(reports: Sequence[Report]) -> Figure:
    figure, axes = _figure(9, 4.6, 2)
    for axis, what in zip(axes, ("recalls", "mounts"), strict=True):
        for report, colour in zip(reports, _cycle(), strict=False):
            counts = [float(getattr(day, what)) for day in report.days]
            dates, means = _weekly(_days(report), counts)
            axis.plot(dates, means, color=colour, label=_plain(report.name), linewidth=1.4)
        axis.set_ylim(bottom=0)
        axis.set_title(f"{what} a day, mean of a week", loc="left", fontsize=10)
    axes[0].legend(frameon=False, fontsize=9)
    return figure


def _latency(reports: Sequence[Report]) -> Figure:
    spreads = [report.recall_latency for report in reports]
    return _bars(
        reports,
        {
            "half of them within": [spread.p50 for spread in spreads],
            "95 of 100 within": [spread.p95 for spread in spreads],
            "the longest": [spread.longest for spread in spreads],
        },
    )


def _protection(reports: Sequence[Report]) -> Figure:
    spreads = [report.protection_lag for report in reports]
    return _bars(
        reports,
        {
            "half of them for": [spread.p50 for spread in spreads],
            "95 of 100 for at most": [spread.p95 for spread in spreads],
            "the longest": [spread.longest for spread in spreads],
        },
    )


def _bars(reports: Sequence[Report], groups: dict[str, list[float]]) -> Figure:
    """Seconds on a logarithmic axis, in words on each bar."""
    figure, (axis,) = _figure(9, 3.2)
    wide = 0.8 / len(reports)
    for number, (report, colour) in enumerate(zip(reports, _cycle(), strict=False)):
        values = [seconds[number] for seconds in groups.values()]
        places = [group + (number - (len(reports) - 1) / 2) * wide for group in range(len(groups))]
        bars = axis.bar(
            places,
            [max(value, 0.1) for value in values],
            wide * 0.92,
            color=colour,
            label=_plain(report.name),
        )
        axis.bar_label(bars, [say_seconds(value) for value in values], fontsize=7, padding=2)
    axis.set_yscale("log")
    axis.set_ylabel("seconds")
    axis.set_xticks(range(len(groups)), list(groups))
    axis.margins(y=0.15)
    axis.legend(frameon=False, fontsize=9)
    return figure


def _cost(reports: Sequence[Report]) -> Figure:
    figure, (axis,) = _figure(9, 1.6 + 0.6 * len(reports))
    items = list(dict.fromkeys(item.what for report in reports for item in report.bill if item.amount))
    left = [0.0] * len(reports)
    for item, colour in zip(items, _cycle(), strict=False):
        widths = [sum(each.amount for each in report.bill if each.what == item) for report in reports]
        axis.barh(
            range(len(reports)),
            widths,
            left=left,
            color=colour,
            label=_plain(item),
            edgecolor="white",
            alpha=0.85,
        )
        left = [base + width for base, width in zip(left, widths, strict=True)]
    axis.set_yticks(range(len(reports)), [_plain(report.name) for report in reports])
    axis.invert_yaxis()
    axis.set_xlabel(_plain(reports[0].currency))
    if items:
        figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    return figure


def _weekly(dates: Any, counts: list[float]) -> tuple[Any, list[float]]:
    """The mean of each week, at its first day; of a short time each day by itself."""
    if len(counts) < 3 * WEEK:
        return dates, counts
    starts = range(0, len(counts) - WEEK + 1, WEEK)
    return [dates[at] for at in starts], [sum(counts[at : at + WEEK]) / WEEK for at in starts]


def _cycle() -> tuple[str, ...]:
    return COLOURS * 20


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .2rem .9rem .2rem 0; border-bottom: 1px solid #ddd; text-align: right }
th:first-child, td:first-child { text-align: left; white-space: pre }
img { max-width: 100%; height: auto }
h2 { margin-top: 2.2rem; font-size: 1.15rem }
.problem { color: #a30000 }
"""


def _page(reports: Sequence[Report], pictures: Sequence[tuple[str, bytes]]) -> str:
    first = reports[0]
    title = "What the policies would have done"
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head>',
        f"<body><h1>{title}</h1>",
        f"<p>{_e(first.begin[:10])} to {_e(first.end[:10])}: {first.arrivals} studies arrived, "
        f"{first.retrieves} retrieves; {say_rate(first.hit_rate('online'))} of them from online disk with "
        f"{_e(first.name)}.</p>",
        *(
            f'<p class="problem">{_e(report.name)}: {_e(problem)}</p>'
            for report in reports
            for problem in report.problems
        ),
        _table([("", *(report.name for report in reports)), *_rows(reports)]),
    ]
    for heading, image in pictures:
        data = base64.b64encode(image).decode("ascii")
        parts.append(f'<h2>{_e(heading)}</h2><img alt="{_e(heading)}" src="data:image/png;base64,{data}">')
    parts.append("</body></html>\n")
    return "\n".join(parts)


def _rows(reports: Sequence[Report]) -> list[tuple[str, ...]]:
    each = [report.rows() for report in reports]
    return [(label, *(rows[number][1] for rows in each)) for number, (label, _) in enumerate(each[0])]


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    head, *body = rows
    lines = ["<table><tr>" + "".join(f"<th>{_e(cell)}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{_e(cell)}</td>" for cell in row) + "</tr>" for row in body]
    return "\n".join([*lines, "</table>"])


def _e(text: str) -> str:
    return html.escape(text)
