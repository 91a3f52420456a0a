"""The command `cvfs-server`: everything a publisher does."""

import click

from cvfs import __version__
from cvfs_tools.running import Verbs

VERBS = {
    "mkfs": "founding.mkfs",
    "import": "founding.import_repository",
    "migrate": "founding.migrate",
    "rmfs": "founding.rmfs",
    "skeleton": "founding.skeleton",
    "publish": "publishing.publish",
    "ingest": "ingesting.ingest",
    "graft": "ingesting.graft",
    "resign": "signing.resign",
    "masterkey": "signing.masterkey",
    "serve": "serving.serve",
    "info": "inspecting.info",
    "list": "inspecting.list_repositories",
    "list-catalogs": "inspecting.catalogs",
    "diff": "comparing.diff",
    "print-stats": "describing.print_stats",
    "merge-stats": "describing.merge_stats",
    "update-repoinfo": "describing.update_repoinfo",
    "update-info": "describing.update_info",
    "catalog-chown": "rewriting.catalog_chown",
    "eliminate-hardlinks": "rewriting.eliminate_hardlinks",
    "eliminate-bulk-hashes": "rewriting.eliminate_bulk_hashes",
    "tag": "tagging.tag",
    "rollback": "tagging.rollback",
    "checkout": "tagging.checkout",
    "transaction": "transacting.transaction",
    "abort": "transacting.abort",
    "enter": "transacting.enter",
    "mount": "transacting.mount",
    "umount": "transacting.umount",
    "check": "checking.check",
    "gc": "collecting.gc",
    "completion": "completing.completion",
}


@click.group(cls=Verbs, verbs=VERBS, context_settings={"help_option_names": ["--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="cvfs-server")
def main() -> None:
    """Publish repositories of software: create, publish, tag, check, sign, serve."""
