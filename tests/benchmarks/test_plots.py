"""Pictures: there, whole, and told apart without colours."""

import itertools
from typing import NamedTuple

import pytest
from reports import SMALL, report, taken

from benchmarks.model import Key, Link, Result, State

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install '.[bench]'")

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from benchmarks.report import plots

CONTESTANTS = ("local", "cvfs", "cvfs-fusepy", "cvfs:CVFS_SOMETHING_LONG=yes", "nfs", "cvmfs2", "csi", "a", "b", "c")
WORKLOADS = ("find", "a-workload-with-a-very-long-name", "import-numpy", "x")


def many():
    """Ratios from a hundredth to ten thousand, many workloads and contestants."""
    factors = itertools.cycle((1.0, 0.01, 30.0, 10_000.0, 0.9, 1.1))
    reading = [
        Result(Key(workload, state, link), {name: _three(next(factors)) for name in CONTESTANTS})
        for workload in WORKLOADS
        for state in (State.COLD, State.WARM, State.HOT)
        for link in ((Link(), Link(5.0), Link(80.0)) if state is State.COLD else (Link(),))
    ]
    publishing = Result(Key("publish"), {"cp -a": _three(1.0), "cvfs zlib": _three(1.5), "tar | zstd -3": _three(0.3)})
    return report(*reading, publishing)


def _three(seconds):
    return taken(seconds, seconds * 1.1, seconds * 1.3)


class Drawn(NamedTuple):
    """A figure that was laid out as it is saved, with the boxes of all that is written in it."""

    figure: Figure
    boxes: dict


@pytest.fixture(scope="module", params=[SMALL, many()], ids=["small", "many"])
def pictures(request):
    return {picture.name: _laid_out(picture.figure) for picture in plots.drawn(request.param)}


def _laid_out(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    hidden = {label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in _out_of_sight(axis)}
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text() and text not in hidden]
    return Drawn(figure, {text: text.get_window_extent(canvas.get_renderer()) for text in shown})


def _out_of_sight(axis):
    """Labels of marks beyond the ends of an axis are there, and not drawn; so are those of places without a panel."""
    low, high = sorted(axis.get_view_interval())
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    return [tick.label1 for tick in ticks if not axis.axes.get_visible() or not low <= tick.get_loc() <= high]


def test_nothing_is_cut_off(pictures):
    for name, (figure, boxes) in pictures.items():
        assert boxes
        outside = [text.get_text() for text, box in boxes.items() if not _inside(figure.bbox, box)]
        assert outside == [], name


def _inside(whole, box):
    return whole.x0 - 1 <= box.x0 and box.x1 <= whole.x1 + 1 and whole.y0 - 1 <= box.y0 and box.y1 <= whole.y1 + 1


def test_names_of_rows_and_marks_do_not_cover_each_other(pictures):
    for figure, boxes in pictures.values():
        for axes in figure.axes:
            rows = sorted((boxes[label].y0, boxes[label].y1) for label in axes.get_yticklabels() if label in boxes)
            marks = sorted((boxes[label].x0, boxes[label].x1) for label in axes.get_xticklabels() if label in boxes)
            for spans in (rows, marks):
                assert all(first[1] <= second[0] + 1 for first, second in itertools.pairwise(spans))


def test_axes_say_what_they_show(pictures):
    for drawn in pictures.values():
        assert drawn.figure.get_supxlabel()
    if "latency" in pictures:
        assert "milliseconds" in pictures["latency"].figure.get_supxlabel()
        assert "seconds" in pictures["latency"].figure.get_supylabel()


def test_contestants_differ_without_colours():
    shown = list(plots._looks(many()).values())
    assert len(shown) == len(CONTESTANTS)
    assert len({(look.hatch, look.marker) for look in plots._LOOKS}) == len(plots._LOOKS)
    assert len({look.colour for look in (*plots._LOOKS, plots._LOCAL_LOOK)}) == len(plots._LOOKS) + 1


def test_files_are_written_and_are_the_same_each_time(tmp_path):
    measured = report(Result(Key("publish"), {"cp -a": taken(5.0), "cvfs zlib": taken(10.0)}))
    assert [name for name, _ in plots.save(measured, tmp_path)] == ["publishing.svg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["publishing.png", "publishing.svg"]
    assert (tmp_path / "publishing.png").read_bytes().startswith(b"\x89PNG")
    first = (tmp_path / "publishing.svg").read_bytes()
    plots.save(measured, tmp_path)
    assert (tmp_path / "publishing.svg").read_bytes() == first


def test_links_have_a_picture_if_there_are_two():
    assert "latency" in {picture.name for picture in plots.drawn(many())}
    assert "latency" not in {picture.name for picture in plots.drawn(SMALL)}


def test_nothing_measured_gives_no_picture():
    assert list(plots.drawn(report())) == []
