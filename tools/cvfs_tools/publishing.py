"""cvfs-server publish, serve."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cvfs.client.repository import as_path
from cvfs.errors import UsageError
from cvfs_server.publication import PublishOptions, PublishReport
from cvfs_server.publish_tree import TreeOptions, publish_tree
from cvfs_server.web.server import serve as start_server
from cvfs_tools.running import shown, write_line
from cvfs_tools.server_options import WORKERS, chosen_repository, site_at, site_options

# What `publish -v` calls things, as the original prints them.
_SHOWN_KINDS = {"add", "mod", "tou", "rem", "x-catalog-add", "x-catalog-rem"}


@click.command()
@click.argument("fqrn", required=False)
@click.option("--from", "source", metavar="DIR", required=True, help="The directory tree to publish")
@click.option(
    "--to", metavar="PATH", default="", help="Where in the repository it goes; everything else stays as it is"
)
@click.option("-a", "--tag", metavar="NAME", default="", help="Name the new revision")
@click.option("-m", "--message", metavar="TEXT", default="", help="Description of the tag")
@click.option("-v", "--verbose", is_flag=True, help="Print a line for each change")
@click.option("--trust-mtime", is_flag=True, help="Equal size and modification time prove equal content")
@click.option(
    "-j", "--workers", type=WORKERS, metavar="N", help="Processes that read and compress (default: all cores)"
)
@click.option("--json", "as_json", is_flag=True, help="Report as one JSON object")
@site_options
def publish(
    fqrn: str | None,
    *,
    source: str,
    to: str,
    tag: str,
    message: str,
    verbose: bool,
    trust_mtime: bool,
    workers: int | None,
    as_json: bool,
    root: str,
) -> None:
    """Publish a directory tree as the new revision of a repository."""
    if not source:
        # As a path it would mean the working directory: a variable that is not set must not publish that.
        raise UsageError("--from '': name the directory tree to publish, '.' for the present directory")
    site = site_at(root)
    name = chosen_repository(site, fqrn)
    with _progress(name) as progress:
        options = PublishOptions(tag, message, None, workers, _reporter(verbose=verbose), progress)
        report = publish_tree(site, name, source, options, TreeOptions(as_path(to), trust_mtime))
    write_line(json.dumps(_summary(report)) if as_json else _sentence(report))


def _reporter(*, verbose: bool) -> Callable[[str, bytes], None]:
    def report(kind: str, path: bytes) -> None:
        if kind in _SHOWN_KINDS:
            write_line(f"[{kind}] {shown(path) or '/'}")

    return report if verbose else lambda _kind, _path: None


@contextlib.contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """A moving line on a terminal, nothing otherwise. How much there is to do is known only at the end of the scan."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _entries, _bytes: None
        return
    columns = (TextColumn(f"publishing {name}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("publish", total=None, text="")

        def update(entries: int, size: int) -> None:
            bar.update(task, text=f"{entries:,} entries, {size / 1e6:,.0f} MB read")

        yield update


def _summary(report: PublishReport) -> dict[str, object]:
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


def _sentence(report: PublishReport) -> str:
    changes = f"{report.added} added, {report.modified} changed, {report.removed} removed"
    sizes = f"{report.bytes_in / 1e6:,.1f} MB read, {report.bytes_stored / 1e6:,.1f} MB in {report.objects} new objects"
    return f"{report.fqrn}: revision {report.revision} published in {report.seconds:.1f} s: {changes}; {sizes}"


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at")
@click.option("--port", type=int, default=8000, show_default=True, help="Port, 0 for any free one")
@site_options
def serve(*, host: str, port: int, root: str) -> None:
    """Serve all repositories of this site over HTTP, for trying out; a real site uses nginx or Apache."""
    server = start_server(site_at(root), host, port)
    write_line(f"cvfs-server: serving {server.url}")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    server.close()
