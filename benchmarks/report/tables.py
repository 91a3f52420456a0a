"""Tables of Markdown and the figures in them; knows nothing of benchmarks."""

from collections.abc import Iterable, Sequence

from benchmarks.report.statistics import Spread

_TO = "\N{EN DASH}"
NOTHING = _TO
"""What stands in a cell without a figure."""
TIMES = "\N{MULTIPLICATION SIGN}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers_from: int = 1) -> str:
    """Columns from `numbers_from` on are set to the right; empty text if there are no rows."""
    lines = [_line(row) for row in rows]
    if not lines:
        return ""
    rule = ["---:" if at >= numbers_from else "---" for at in range(len(head))]
    return "\n".join([_line(head), _line(rule), *lines]) + "\n"


def figure(value: float) -> str:
    """Three digits that matter: 0.0123, 1.23, 123, 12,345; powers of ten only for what is less than 0.0001."""
    if value == 0:
        return "0"
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    # What would be rounded to 1 has two digits behind the point as well.
    if value >= 0.9995:
        return f"{value:.2f}"
    return f"{value:.3g}" if value >= 0.0001 else f"{value:.1e}"


def count(value: float) -> str:
    """A whole number as it is, with commas; what is none as a figure."""
    return f"{value:,.0f}" if value == int(value) else figure(value)


def interval(value: Spread | None) -> str:
    """The median, and in brackets from where to where; where it is nowhere else, the figure alone."""
    if value is None:
        return NOTHING
    if value.low == value.high:
        return figure(value.median)
    return f"{figure(value.median)} ({figure(value.low)}{_TO}{figure(value.high)})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(text: str) -> str:
    """A bar would end the cell; reasons for failures come from programs."""
    return " ".join(text.replace("|", "\\|").split())
