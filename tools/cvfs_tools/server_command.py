"""The command `cvfs-server`: everything a publisher does."""

import click

from cvfs import __version__
from cvfs_tools import (
    checking,
    collecting,
    comparing,
    describing,
    founding,
    ingesting,
    inspecting,
    publishing,
    rewriting,
    signing,
    tagging,
    transacting,
)
from cvfs_tools.running import Group


@click.group(cls=Group, context_settings={"help_option_names": ["--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="cvfs-server")
def main() -> None:
    """Publish repositories of software: create, publish, tag, check, sign, serve."""


for command in (
    founding.mkfs,
    founding.import_repository,
    founding.migrate,
    founding.rmfs,
    founding.skeleton,
    publishing.publish,
    ingesting.ingest,
    ingesting.graft,
    signing.resign,
    signing.masterkey,
    publishing.serve,
    inspecting.info,
    inspecting.list_repositories,
    inspecting.catalogs,
    comparing.diff,
    describing.print_stats,
    describing.merge_stats,
    describing.update_repoinfo,
    describing.update_info,
    rewriting.catalog_chown,
    rewriting.eliminate_hardlinks,
    rewriting.eliminate_bulk_hashes,
    tagging.tag,
    tagging.rollback,
    tagging.checkout,
    transacting.transaction,
    transacting.abort,
    transacting.enter,
    transacting.mount,
    transacting.umount,
    checking.check,
    collecting.gc,
):
    main.add_command(command)
