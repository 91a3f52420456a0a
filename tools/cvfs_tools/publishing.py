"""cvfs-server mkfs, publish, resign, serve."""

import contextlib
import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterator

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cvfs.chunking import ChunkSizes
from cvfs.errors import FormatError, UsageError
from cvfs.hashes import Algorithm
from cvfs_server.mkfs import mkfs as make_repository
from cvfs_server.publish import PublishOptions, PublishReport
from cvfs_server.publish import publish as publish_tree
from cvfs_server.resign import DEFAULT_DAYS, resign_manifest, resign_whitelist
from cvfs_server.settings import default_settings
from cvfs_server.web.server import serve as start_server
from cvfs_tools.running import shown, write_line
from cvfs_tools.server_options import WORKERS, chosen_repository, site_at, site_options

_COMPRESSION_NOTES = {
    "zlib": "zlib level 6: every client reads it, byte-identical to the original's objects",
    "zlib-fast": "fast deflate: every client reads it, seven times faster, a tenth larger",
    "zstd": "zstd: fastest and small, but only cvfs clients read it",
    "none": "stored as they are: every client reads it",
}
# What `publish -v` calls things, as the original prints them.
_SHOWN_KINDS = {"add", "mod", "tou", "rem", "x-catalog-add", "x-catalog-rem"}
_CHUNK_SIZES = re.compile(r"(\d+):(\d+):(\d+)")


@click.command()
@click.argument("fqrn")
@click.option("-w", "--url", metavar="URL", help="URL under which clients find it")
@click.option("-o", "--owner", metavar="USER", help="User who publishes (noted in server.conf)")
@click.option("-a", "--hash-algorithm", default="sha1", help="sha1, rmd160 or shake128", show_default=True)
@click.option("-Z", "--compression", default="zlib", help="zlib, zlib-fast, zstd or none", show_default=True)
@click.option("-z", "--garbage-collection", is_flag=True, help="Allow garbage collection (always so)")
@click.option("-g", "--no-autotags", is_flag=True, help="No generic tags at each publish")
@click.option("-m", "--replicable", is_flag=True, help="Mark it as master of replicas (always so)")
@click.option("--days", type=int, default=DEFAULT_DAYS, show_default=True, help="Validity of the whitelist")
@click.option("--ttl", type=int, metavar="SECONDS", help="How long clients wait before they look for a new revision")
@click.option("--chunk-sizes", metavar="MIN:AVG:MAX", help="Bytes of the pieces of large files")
@site_options
def mkfs(
    fqrn: str,
    *,
    url: str | None,
    owner: str | None,
    hash_algorithm: str,
    compression: str,
    garbage_collection: bool,
    no_autotags: bool,
    replicable: bool,
    days: int,
    ttl: int | None,
    chunk_sizes: str | None,
    root: str,
) -> None:
    """Create the repository FQRN: keys, configuration, an empty first revision."""
    del garbage_collection, replicable  # what users of the original ask for is the default here
    site = site_at(root)
    settings = dataclasses.replace(
        default_settings(site, fqrn),
        algorithm=_algorithm(hash_algorithm),
        compression="zlib" if compression == "default" else compression,
        auto_tag=not no_autotags,
    )
    settings = dataclasses.replace(
        settings,
        url=url or settings.url,
        user=owner or settings.user,
        ttl=settings.ttl if ttl is None else ttl,
        chunk_sizes=_sizes(chunk_sizes) if chunk_sizes else settings.chunk_sizes,
    )
    make_repository(site, settings, days=days)
    write_line(f"Repository {fqrn} created, compression is {_COMPRESSION_NOTES[settings.compression]}")
    write_line(f"Clients need {site.key(fqrn, 'pub')}; keep {site.key(fqrn, 'masterkey')} in a safe place")


def _algorithm(name: str) -> Algorithm:
    try:
        return Algorithm.named(name)
    except FormatError as error:
        raise UsageError(f"--hash-algorithm {name}: {error}") from error


def _sizes(text: str) -> ChunkSizes:
    match = _CHUNK_SIZES.fullmatch(text)
    if not match:
        raise UsageError(f"--chunk-sizes {text}: expected three numbers of bytes, MIN:AVG:MAX")
    return ChunkSizes(*map(int, match.groups()))


@click.command()
@click.argument("fqrn", required=False)
@click.option("--from", "source", metavar="DIR", required=True, help="The directory tree to publish")
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
        options = PublishOptions(tag, message, trust_mtime, workers, _reporter(verbose=verbose), progress)
        report = publish_tree(site, name, source, options)
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
@click.argument("fqrn", required=False)
@click.option("-d", "--days", type=int, default=DEFAULT_DAYS, show_default=True, help="Validity of the whitelist")
@click.option("-p", "--manifest", "sign_manifest", is_flag=True, help="Sign the manifest, not the whitelist")
@click.option("-f", "--force", is_flag=True, help="Ask nothing (nothing is asked)")
@site_options
def resign(fqrn: str | None, *, days: int, sign_manifest: bool, force: bool, root: str) -> None:
    """Sign the whitelist anew, before it expires; or the manifest, after a change of keys."""
    del force
    site = site_at(root)
    name = chosen_repository(site, fqrn)
    if sign_manifest:
        write_line(f"{name}: manifest of revision {resign_manifest(site, name).revision} signed")
    else:
        write_line(f"{name}: whitelist valid until {resign_whitelist(site, name, days).expires} UTC")


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
