"""What every verb that publishes has in common: its options, the lines it prints meanwhile, its report."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import click

from cvfs.errors import UsageError
from cvfs_server.publication import PublishOptions, PublishReport
from cvfs_server.settings import RepositorySettings
from cvfs_server.statistics import printed
from cvfs_tools.running import one_line, shown, write_line
from cvfs_tools.server_options import WORKERS

# What `publish -v` calls things, as the original prints them.
_SHOWN_KINDS = {"add", "mod", "tou", "rem", "x-catalog-add", "x-catalog-rem"}

Command = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was asked for on the command line."""

    tag: str
    message: str
    verbose: bool
    compression: str
    external: bool
    native: bool
    workers: int | None
    as_json: bool
    direct_io: bool = False
    revision: int | None = None

    @contextlib.contextmanager
    def watched(self, name: str) -> Iterator[PublishOptions]:
        """The options of a publish of the repository `name`, whose progress is shown meanwhile."""
        if self.external and self.native:
            raise UsageError("-X and -N contradict each other: contents are external, or they are not")
        external = True if self.external else False if self.native else None
        with progress_line(name) as progress:
            yield PublishOptions(
                self.tag,
                self.message,
                workers=self.workers,
                report=reporter(verbose=self.verbose),
                progress=progress,
                warn=warn,
                revision=self.revision,
                compression="zlib" if self.compression == "default" else self.compression,
                external=external,
                direct_io=self.direct_io,
            )

    def print_report(self, report: PublishReport, settings: RepositorySettings) -> None:
        """One line, or one JSON object; before it the statistics, if CVMFS_PRINT_STATISTICS wants them."""
        if settings.print_statistics and not self.as_json:
            for line in printed(report.statistics):
                write_line(line)
        write_line(json.dumps(summary(report)) if self.as_json else sentence(report))


_OPTIONS = (
    click.option("-a", "--tag", metavar="NAME", default="", help="Name the new revision"),
    click.option("-m", "--message", metavar="TEXT", default="", help="Description of the tag"),
    click.option("-v", "--verbose", is_flag=True, help="Print a line for each change"),
    click.option("-Z", "--compression", metavar="NAME", default="", help="How new contents are stored this time"),
    click.option("-X", "--external", is_flag=True, help="Contents are on other servers: store hashes only"),
    click.option("-N", "--native", is_flag=True, help="Store contents, although the repository is an external one"),
    click.option(
        "-j", "--workers", type=WORKERS, metavar="N", help="Processes that read and compress (default: all cores)"
    ),
    click.option("--json", "as_json", is_flag=True, help="Report as one JSON object"),
)


def publish_options(function: Command) -> Command:
    """Adds the options; the command receives them together, as `chosen`, with those of its own that have a place there."""

    def command(*arguments: Any, **options: Any) -> Any:
        fields = {name: options.pop(name) for name in Chosen.__slots__ if name in options}
        return function(*arguments, chosen=Chosen(**fields), **options)

    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    for option in reversed(_OPTIONS):
        option(command)
    return command


def reporter(*, verbose: bool) -> Callable[[str, bytes], None]:
    """Prints a line for each change, if that is wanted."""

    def report(kind: str, path: bytes) -> None:
        if kind in _SHOWN_KINDS:
            write_line(f"[{kind}] {shown(path) or '/'}")

    return report if verbose else lambda _kind, _path: None


def warn(text: str) -> None:
    """A sentence that does not keep anything from being done."""
    print(one_line(f"cvfs-server: warning: {text}"), file=sys.stderr)


@contextlib.contextmanager
def progress_line(name: str) -> Iterator[Callable[[int, int], None]]:
    """A moving line on a terminal, nothing otherwise. How much there is to do is known only at the end of the scan."""
    if not sys.stderr.isatty():
        yield lambda _entries, _bytes: None
        return
    # Here, for in scripts nobody looks, and to import it takes a sixth of the time of a small publish.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn(f"publishing {name}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("publish", total=None, text="")

        def update(entries: int, size: int) -> None:
            bar.update(task, text=f"{entries:,} entries, {size / 1e6:,.0f} MB read")

        yield update


def summary(report: PublishReport) -> dict[str, object]:
    """A report for programs."""
    contents = report.contents
    return {
        "fqrn": report.fqrn,
        "revision": report.revision,
        "root_hash": report.root_hash,
        "entries": contents.entries,
        "catalogs": contents.nested + 1,
        "bytes": contents.file_size,
        "added": report.added,
        "modified": report.modified,
        "removed": report.removed,
        "bytes_in": report.bytes_in,
        "bytes_stored": report.bytes_stored,
        "objects": report.objects,
        "seconds": round(report.seconds, 3),
    }


def sentence(report: PublishReport) -> str:
    """A report for people."""
    changes = f"{report.added} added, {report.modified} changed, {report.removed} removed"
    sizes = f"{report.bytes_in / 1e6:,.1f} MB read, {report.bytes_stored / 1e6:,.1f} MB in {report.objects} new objects"
    return f"{report.fqrn}: revision {report.revision} published in {report.seconds:.1f} s: {changes}; {sizes}"
