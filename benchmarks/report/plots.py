"""Pictures of a report, as SVG and PNG: overhead, cold time behind links, publishing; the one home of matplotlib.

Contestants have colours of the palette of Okabe and Ito, which the colour-blind tell apart, and besides hatches and markers of
their own, so that a black and white print shows the same. Nothing is drawn that the tables do not have.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from benchmarks.model import Key, Link, Report, Result, State
from benchmarks.report.relative import LOCAL, overhead, seconds
from benchmarks.report.statistics import Spread, spread
from benchmarks.report.tables import figure as in_digits


class _Look(NamedTuple):
    """How a contestant is shown, in all pictures alike."""

    colour: str
    hatch: str
    marker: str
    line: str


_LOCAL_LOOK = _Look("#000000", "", "x", ":")
_LOOKS = (
    _Look("#0072B2", "", "o", "-"),
    _Look("#E69F00", "///", "s", "--"),
    _Look("#009E73", "...", "^", "-."),
    _Look("#CC79A7", "xxx", "D", "-"),
    _Look("#56B4E9", "\\\\\\", "v", "--"),
    _Look("#D55E00", "+++", "P", "-."),
    _Look("#F0E442", "ooo", "X", "-"),
)
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.6,
    # The same report gives the same bytes, and no viewer needs the fonts.
    "svg.hashsalt": "benchmarks",
    "svg.fonttype": "path",
}
_RATIO = "ratio"
_WIDTH = 9.0
_ROW, _AROUND = 0.19, 1.3
"""Inches: of one bar, and of all that is above and below the bars."""
_GAP = 0.6
"""Between two rows, in bars."""
_DOTS = 110
_COLUMNS = 3
_MARKS = 6
"""On an axis, at most: labels of more would touch."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One ratio: whose, of what, and where it belongs."""

    panel: str
    row: str
    contestant: str
    ratio: Spread


@dataclass(frozen=True, slots=True)
class Picture:
    """`about` is what stands below it in a page."""

    name: str
    about: str
    figure: Figure


def save(report: Report, directory: Path) -> list[tuple[str, str]]:
    """Writes each as NAME.svg and NAME.png; file names of the SVG with what they show."""
    directory.mkdir(parents=True, exist_ok=True)
    shown = []
    with mpl.rc_context(_STYLE):
        for picture in drawn(report):
            picture.figure.savefig(directory / f"{picture.name}.svg", metadata={"Date": None})
            picture.figure.savefig(directory / f"{picture.name}.png", dpi=_DOTS)
            shown.append((f"{picture.name}.svg", picture.about))
    return shown


def drawn(report: Report) -> Iterator[Picture]:
    """Those for which the report has anything."""
    looks = _looks(report)
    with mpl.rc_context(_STYLE):
        if bars := _overheads(report):
            about = "Overhead: times the seconds of a local directory, by workload and state"
            yield Picture("overhead", about, _bars(bars, "times a local directory", looks))
        if panels := _behind_links(report):
            yield Picture(
                "latency", "Seconds of a cold run against the round trip to the server", _latency(panels, looks)
            )
        if bars := _publishing(report):
            about = "Publishing: times the seconds of the plain tool"
            yield Picture("publishing", about, _bars(bars, "times the plain tool", {_RATIO: _LOOKS[0]}))


def _looks(report: Report) -> Mapping[str, _Look]:
    names = [name for result, name in _contestants(report) if result.key.state is not State.NONE and name != LOCAL]
    return {name: _LOOKS[at % len(_LOOKS)] for at, name in enumerate(dict.fromkeys(names))} | {LOCAL: _LOCAL_LOOK}


# --- what is shown --------------------------------------------------------------------------------------------------------


def _overheads(report: Report) -> list[Bar]:
    """Without links."""
    return [
        Bar(result.key.state.value, result.key.workload, name, found.spread)
        for result, name in _contestants(report)
        if result.key.state is not State.NONE and result.key.link == Link()
        if (found := overhead(report, result.key, name))
    ]


def _publishing(report: Report) -> list[Bar]:
    """Each contestant is a row of its own: hardly two contests have the same."""
    return [
        Bar("", f"{result.key.workload}: {name} / {found.standard.contestant}", _RATIO, found.spread)
        for result, name in _contestants(report)
        if result.key.state is State.NONE and (found := overhead(report, result.key, name))
    ]


Lines = Mapping[str, Mapping[float, Spread]]
"""By contestant and round trip."""


def _behind_links(report: Report) -> dict[str, Lines]:
    """By workload: seconds of cold runs, for those that were run with two round trips or more."""
    found: dict[str, dict[str, dict[float, Spread]]] = {}
    for result, name in _contestants(report):
        key = result.key
        if key == Key(key.workload, State.COLD, Link(key.link.rtt)):
            of_workload = found.setdefault(key.workload, {})
            of_workload.setdefault(name, {})[key.link.rtt] = spread(seconds(result.samples[name]))
    return {name: lines for name, lines in found.items() if any(len(points) > 1 for points in lines.values())}


def _contestants(report: Report) -> Iterator[tuple[Result, str]]:
    for result in report.results:
        for name, samples in result.samples.items():
            if samples:
                yield result, name


# --- bars -----------------------------------------------------------------------------------------------------------------


def _bars(bars: Sequence[Bar], label: str, looks: Mapping[str, _Look]) -> Figure:
    """A panel beside the other, the same rows in each, one scale for all."""
    rows, contestants = _unique(bar.row for bar in bars), _unique(bar.contestant for bar in bars)
    panels = [panel for panel in ("", *State) if any(bar.panel == panel for bar in bars)]
    pitch = len(contestants) + _GAP
    figure = Figure(figsize=(_WIDTH, _AROUND + _ROW * len(rows) * pitch), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, sharex=True, squeeze=False)[0]
    for each, panel in zip(axes, panels, strict=True):
        each.set_title(panel)
        for at, contestant in enumerate(contestants):
            own = [bar for bar in bars if (bar.panel, bar.contestant) == (panel, contestant)]
            _draw(each, {rows.index(bar.row) * pitch + at: bar.ratio for bar in own}, contestant, looks[contestant])
        _furnish(each)
    middle = (len(contestants) - 1) / 2
    axes[0].set_yticks([at * pitch + middle for at in range(len(rows))], rows)
    axes[0].set_ylim(len(rows) * pitch - _GAP, -1)
    _scale(axes[0], [bar.ratio for bar in bars], len(panels))
    figure.supxlabel(f"{label} (logarithmic; left of the line is faster)", fontsize=9)
    if contestants != [_RATIO]:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return figure


def _draw(axes: Axes, ratios: Mapping[float, Spread], contestant: str, look: _Look) -> None:
    """The bars of one contestant by their places, each with its interval and its figure."""
    axes.barh(
        list(ratios),
        [ratio.median - 1 for ratio in ratios.values()],
        left=1,
        height=0.85,
        color=look.colour,
        hatch=look.hatch,
        edgecolor="#333333" if look.hatch else "white",
        linewidth=0.4,
        label=contestant,
    )
    for place, ratio in ratios.items():
        axes.plot([ratio.low, ratio.high], [place, place], color="#333333", linewidth=1)
        end = (max(ratio.high, 1), place)
        text = in_digits(ratio.median)
        axes.annotate(text, end, xytext=(3, 0), textcoords="offset points", va="center", fontsize=7)


def _furnish(axes: Axes) -> None:
    axes.axvline(1, color="black", linewidth=0.8)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def _scale(axes: Axes, ratios: Sequence[Spread], panels: int) -> None:
    """From the least to the greatest, at least from a half to two, with room for the figure behind the longest bar."""
    least = min(0.5, *(ratio.low for ratio in ratios)) * 0.85
    greatest = max(2.0, *(ratio.high for ratio in ratios))
    # The figure is as wide in a narrow panel as in a wide one.
    room = (greatest / least) ** (0.08 * panels + 0.02)
    axes.set_xscale("log")
    axes.set_xlim(least, greatest * room)
    axes.xaxis.set_major_locator(FixedLocator(_marks(least, greatest)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.9g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _marks(least: float, greatest: float) -> list[float]:
    """1, 2, 5, 10 and so on; where those are too many, powers of ten, or every second or third of them."""
    for steps, powers in (((1, 2, 5), 1), ((1,), 1), ((1,), 2), ((1,), 3)):
        marks = [step * 10.0**power for power in range(-12, 13, powers) for step in steps]
        shown = [mark for mark in marks if least <= mark <= greatest]
        if len(shown) <= _MARKS - (powers > 1):
            break
    return shown


# --- lines ----------------------------------------------------------------------------------------------------------------


def _latency(panels: Mapping[str, Lines], looks: Mapping[str, _Look]) -> Figure:
    """A panel for each workload, each with a scale of its own that begins with nothing."""
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(_WIDTH if columns > 1 else 5.0, 0.9 + 2.5 * rows), layout="constrained")
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, (workload, lines) in zip(places, panels.items(), strict=False):
        for contestant, points in lines.items():
            _line(axes, contestant, looks[contestant], points)
        axes.set_title(workload)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.grid(color="#dddddd", linewidth=0.6)
    for axes in places[len(panels) :]:
        axes.set_visible(False)
    figure.supxlabel("round trip to the server, milliseconds", fontsize=9)
    figure.supylabel("seconds, empty cache", fontsize=9)
    shown = {label: handle for axes in places for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(shown.values(), shown.keys(), loc="outside upper center", ncols=4, frameon=False)
    return figure


def _line(axes: Axes, contestant: str, look: _Look, points: Mapping[float, Spread]) -> None:
    trips = sorted(points)
    if contestant == LOCAL:
        # No link leads to a local directory.
        axes.axhline(points[trips[0]].median, color=look.colour, linestyle=look.line, label=contestant)
        return
    axes.errorbar(
        trips,
        [points[trip].median for trip in trips],
        [
            [points[trip].median - points[trip].low for trip in trips],
            [points[trip].high - points[trip].median for trip in trips],
        ],
        color=look.colour,
        marker=look.marker,
        linestyle=look.line,
        capsize=2,
        label=contestant,
    )


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
