"""The command line of the benchmarks: options to what they mean, verbs to what does it; it measures nothing itself."""

import argparse
import fcntl
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import campaign, plan
from benchmarks.measuring.setting import setting
from benchmarks.model import Contest, Link, Report, State
from benchmarks.report import results
from benchmarks.report.rendering import RESULTS, render
from benchmarks.report.verbs import add_verbs
from benchmarks.targets.named import DEFAULT, NAMES, split, targets
from benchmarks.targets.surroundings import Surroundings
from benchmarks.workloads import replay
from benchmarks.workloads.base import READING
from cvfs.errors import CvfsError, UsageError

WORK = Path("build/benchmarks")
_REPETITIONS = {"quick": 3, "full": 5}


def main(words: Sequence[str] | None = None) -> int:
    """The exit status: 0, 1 for a run without any sample, 2 for what makes no sense, 130 after an interrupt."""
    chosen = _parser().parse_args(words)
    try:
        return int(chosen.verb(chosen))
    except CvfsError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("benchmarks: interrupted; what was measured before is kept", file=sys.stderr)
        return 130


# --- options ----------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What it costs to run from a mount.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    _add_run(verbs.add_parser("run", help="measure, and write results and report"))
    add_verbs(verbs)
    listing = verbs.add_parser("list", help="show the workloads and the targets")
    listing.set_defaults(verb=list_all)
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("workloads", nargs="*", metavar="WORKLOAD", help="by default all of the quick set; see `list`")
    add(
        "--against",
        default=",".join(DEFAULT),
        metavar="NAMES",
        help=f"{','.join(NAMES)}, cvfs:KEY=VALUE,…; [local,cvfs]",
    )
    add("--dir", action="append", default=[], metavar="NAME=PATH", dest="directories", help=_DIR)
    add("--state", default=",".join(READING), metavar="STATES", help="[cold,warm,hot]")
    add("--rtt", metavar="MS", help="round trips between client and server in milliseconds: 0,5,20,80")
    add("--bandwidth", metavar="MBIT", help="of the same links, in Mbit/s: 0 (no limit), 100")
    add("--repeat", type=_count, metavar="N", help="repetitions of everything [3, of the full set 5]")
    add("--out", type=Path, metavar="DIR", help="where results and report are written [WORK-DIR/report]")
    add("--work-dir", type=Path, default=WORK, metavar="DIR", help=f"trees, repositories, caches, mounts [{WORK}]")
    add("--trace", type=Path, metavar="FILE", help="replay the accesses recorded in it, as CVMFS_TRACEFILE has them")
    add(
        "--trace-tree",
        type=Path,
        metavar="DIR",
        help="the tree that was recorded [WORK-DIR/trees/python]; it is copied",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick", action="store_false", dest="full", default=False, help="the quick set, under five minutes [default]"
    )
    size.add_argument("--full", action="store_true", help="the full set, unattended")
    add("--flame", action="store_true", help="a flame graph of each client at each work that reads, in DIR/flames")
    parser.set_defaults(verb=run, full=False)


_DIR = (
    "another directory to measure, the mount of another file system for instance: it holds copies of the trees in "
    "WORK-DIR/trees by their names, or it is writable and they are copied there"
)


def _count(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


# --- verbs ------------------------------------------------------------------------------------------------------------


def list_all(_: argparse.Namespace) -> int:
    """Workloads with what they are, and the names of targets."""
    width = max(map(len, plan.names()))
    for name, about in plan.names().items():
        print(f"{name:{width}}  {about}")
    print(f"\ntargets: {', '.join(NAMES)}, cvfs:KEY=VALUE,…, and what --dir names")
    return 0


def run(chosen: argparse.Namespace) -> int:
    """Measure, keeping what there is after each contest."""
    work = chosen.work_dir.absolute()
    out = (chosen.out or work / "report").absolute()
    for directory in (work, out):
        directory.mkdir(parents=True, exist_ok=True)
    wishes = plan.Wishes(
        chosen.workloads,
        _states(chosen.state),
        _links(chosen.rtt, chosen.bandwidth),
        chosen.full,
        out / "flames" if chosen.flame else None,
        [replay.of(chosen.trace, chosen.trace_tree)] if chosen.trace else [],
    )
    repetitions = chosen.repeat or _REPETITIONS["full" if chosen.full else "quick"]
    with _alone(work), _interruptible():
        contestants = targets(split(chosen.against), _directories(chosen.directories), Surroundings(work))
        report = _measure(plan.planned(wishes, contestants, work), repetitions, out / RESULTS, work)
    print(out / RESULTS, render(report, out), sep="\n")
    return 0 if any(result.samples for result in report.results) else 1


def _measure(contests: Sequence[Contest], repetitions: int, file: Path, work: Path) -> Report:
    started, clock = time.time(), time.monotonic()
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    report = Report(command, started, 0.0, setting(work), ())
    for result in campaign.run(contests, repetitions):
        seconds = time.monotonic() - clock
        report = Report(command, started, seconds, report.setting, (*report.results, result))
        results.save(report, file)
    return report


def _states(words: str) -> list[State]:
    try:
        return [State(word) for word in words.split(",")]
    except ValueError as error:
        raise UsageError(f"--state {words}: {error}: there are {', '.join(READING)}") from error


def _links(rtts: str | None, bandwidths: str | None) -> list[Link] | None:
    """Every round trip with every bandwidth; None if nothing was said."""
    if rtts is None and bandwidths is None:
        return None
    return [
        Link(rtt, bandwidth)
        for bandwidth in _numbers("--bandwidth", bandwidths or "0")
        for rtt in _numbers("--rtt", rtts or "0")
    ]


def _numbers(option: str, words: str) -> list[float]:
    try:
        found = [float(word) for word in words.split(",")]
    except ValueError as error:
        raise UsageError(f"{option} {words}: numbers, with commas between them") from error
    if any(not 0 <= number < 1e6 for number in found):
        raise UsageError(f"{option} {words}: no link is like that")
    return found


def _directories(words: Sequence[str]) -> dict[str, Path]:
    found = {name: Path(path).absolute() for name, _, path in (word.partition("=") for word in words) if name and path}
    wrong = [word for word in words if word.partition("=")[0] not in found]
    wrong += [f"{name}={path}" for name, path in found.items() if not path.is_dir()]
    if wrong:
        raise UsageError(f"--dir {wrong[0]}: NAME=PATH of a directory")
    return found


# --- a run and its end ------------------------------------------------------------------------------------------------


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Two runs would measure each other, and share caches and mount points."""
    with (work / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"{work}: another run is working there: wait for it, or take another --work-dir"
            ) from error
        yield


@contextmanager
def _interruptible() -> Iterator[None]:
    """The first signal unwinds everything; what comes after it would only leave mounts behind."""

    def interrupted(_number: int, _frame: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupted) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
