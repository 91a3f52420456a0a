"""cvfs-server print-stats, merge-stats, update-repoinfo, update-info."""

from collections.abc import Iterable

import click

from cvfs.errors import NotFound, StoreFull, UsageError
from cvfs_server import statistics
from cvfs_server.repoinfo import metainfo_to_edit, publish_metainfo, read_json, update_site_info
from cvfs_server.repository import PublishedRepository
from cvfs_server.settings import load_settings
from cvfs_tools.running import write_line
from cvfs_tools.server_options import chosen_repository, site_at, site_options


@click.command(name="print-stats")
@click.argument("fqrn", required=False)
@click.option("-o", "--output", metavar="FILE", help="Into a file")
@click.option("-s", "--separator", metavar="C", default="|", help="Between columns", show_default=True)
@click.option(
    "-t",
    "--table",
    metavar="NAME",
    default="publish_statistics",
    help=" or ".join(statistics.TABLES),
    show_default=True,
)
@site_options
def print_stats(fqrn: str | None, *, output: str | None, separator: str, table: str, root: str) -> None:
    """Print what publishes or garbage collections did, one line each."""
    site = site_at(root)
    settings = load_settings(site, chosen_repository(site, fqrn))
    try:
        found = statistics.read_table(statistics.place(settings), table)
    except NotFound:
        write_line(f"No statistics database file for {settings.fqrn} repository.")
        return
    rows = (["" if value is None else str(value) for value in row] for row in found.rows)
    lines = [separator.join(row) for row in (found.columns, *rows)]
    if output is None:
        _write(lines)
        return
    try:
        with open(output, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        raise StoreFull(f"cannot write {output}: {error.strerror}") from error


@click.command(name="merge-stats")
@click.argument("first")
@click.argument("second")
@click.option("-o", "--output", metavar="FILE", default="output.db", help="The new file", show_default=True)
def merge_stats(first: str, second: str, output: str) -> None:
    """Merge two statistics databases of one repository."""
    statistics.merge(first, second, output)
    for table in statistics.TABLES[:2]:
        write_line(f"Success: {first} and {second} {table} tables were merged in {output}")


@click.command(name="update-repoinfo")
@click.argument("fqrn", required=False)
@click.option("-f", "--file", metavar="FILE", help="A JSON object (default: edit the present one)")
@site_options
def update_repoinfo(fqrn: str | None, *, file: str | None, root: str) -> None:
    """Publish what a repository says of itself: administrator, description, recommended stratum 1 servers."""
    site = site_at(root)
    name = chosen_repository(site, fqrn)
    data = read_json(file) if file else _edited(metainfo_to_edit(PublishedRepository.open(site, name)))
    manifest = publish_metainfo(site, name, data)
    write_line(f"{name}: revision {manifest.revision}: meta info {manifest.metainfo}")


@click.command(name="update-info")
@click.option("-e", "--no-edit", is_flag=True, help="Leave meta.json as it is")
@click.option("-f", "--file", metavar="FILE", help="The new meta.json, a JSON object")
@click.option("-p", "--no-apache", is_flag=True, help="Configure no web server (none is configured)")
@site_options
def update_info(*, no_edit: bool, file: str | None, no_apache: bool, root: str) -> None:
    """Write the list of this site's repositories below info/v1, and what the site says of itself."""
    del no_apache
    site = site_at(root)
    meta = None if file is None else read_json(file)
    written = update_site_info(site, meta)
    if file is None and not no_edit:
        (place,) = {path.rpartition("/")[0] for path in written}
        written = update_site_info(site, _edited(read_json(f"{place}/meta.json")))
    _write(written)


def _edited(data: bytes) -> bytes:
    """What the user makes of it in an editor. Raises UsageError for nothing."""
    try:
        text = click.edit(data.decode("utf-8", "replace"), extension=".json", require_save=True)
    except click.ClickException as error:
        raise UsageError(f"{error.message}: give a JSON file with -f, or choose an editor with EDITOR") from error
    if text is None:
        raise UsageError("nothing was changed: give a JSON file with -f, or save one in the editor")
    return text.encode()


def _write(lines: Iterable[str]) -> None:
    for line in lines:
        write_line(line)
