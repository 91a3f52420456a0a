"""cvfs-server publish."""

import click

from cvfs.errors import UsageError
from cvfs.hashes import as_path
from cvfs_server.publication import PublishOptions, PublishReport
from cvfs_server.settings import load_settings
from cvfs_server.site import Site
from cvfs_server.transaction.transactions import publish_transaction
from cvfs_server.ways.tree import TreeOptions, publish_tree
from cvfs_tools.publish_options import Chosen, publish_options
from cvfs_tools.server_options import chosen_repository, site_at, site_options
from cvfs_tools.transacting import leave_repository, pause_for_tweaks


@click.command()
@click.argument("fqrn", required=False)
@click.option("--from", "source", metavar="DIR", help="Publish this directory tree, not the open transaction")
@click.option("--to", metavar="PATH", help="Where in the repository it goes; everything else stays as it is")
@click.option("--trust-mtime", is_flag=True, help="Equal size and modification time prove equal content")
@click.option("-p", "--pause", is_flag=True, help="Wait for last changes before the transaction is published")
@click.option("-f", "--force", is_flag=True, help="Publish although files of the transaction are in use")
@click.option("-d", "--direct-io", is_flag=True, help="Ask clients not to keep new files in the kernel's memory")
@click.option("-n", "--revision", type=click.IntRange(1), metavar="N", help="The number of the new revision")
@publish_options
@site_options
def publish(
    fqrn: str | None,
    *,
    chosen: Chosen,
    source: str | None,
    to: str | None,
    trust_mtime: bool,
    pause: bool,
    force: bool,
    root: str,
) -> None:
    """Publish the open transaction, or a directory tree, as the new revision of a repository."""
    site = site_at(root)
    name = chosen_repository(site, fqrn)
    with chosen.watched(name) as options:
        if source is None:
            _refuse_options_of_trees(given=to is not None or trust_mtime)
            report = _publish_transaction(site, name, options, pause=pause, force=force)
        else:
            _refuse_nothing(source, to)
            report = publish_tree(site, name, source, options, TreeOptions(as_path(to or ""), trust_mtime))
    chosen.print_report(report, load_settings(site, name))


def _publish_transaction(site: Site, name: str, options: PublishOptions, *, pause: bool, force: bool) -> PublishReport:
    leave_repository(site, name)
    tweak = pause_for_tweaks if pause else _leave_as_it_is
    return publish_transaction(site, name, options, force=force, tweak=tweak)


def _leave_as_it_is(_place: str) -> None:
    return


def _refuse_nothing(source: str, to: str | None) -> None:
    # What a script passes when its variable is not set must not mean the working directory, or the whole repository.
    if to == "":
        raise UsageError("--to '': name where in the repository the tree goes, '/' for the whole")
    if not source:
        raise UsageError("--from '': name the directory tree to publish, '.' for the present directory")


def _refuse_options_of_trees(*, given: bool) -> None:
    if given:
        raise UsageError("--to and --trust-mtime are for a directory tree: name it with --from DIR")
