"""cvfs-server info, list."""

import sys
import time

import click

from cvfs.errors import CvfsError
from cvfs.format.signature import split_signed
from cvfs.format.whitelist import parse as parse_whitelist
from cvfs_server.repository import WHITELIST, PublishedRepository, reading
from cvfs_server.settings import configured_repositories
from cvfs_tools.running import one_line, write_line
from cvfs_tools.server_options import chosen_repository, site_at, site_options


@click.command(name="list")
@site_options
def list_repositories(*, root: str) -> None:
    """List the repositories of this site; one that cannot be read does not hide the others."""
    site, broken = site_at(root), 0
    for fqrn in configured_repositories(site):
        try:
            manifest = PublishedRepository.open(site, fqrn).manifest
        except CvfsError as error:
            print(one_line(f"cvfs-server: {fqrn}: {error}"), file=sys.stderr)
            broken = error.exit_status
        else:
            write_line(f"{fqrn} (stratum0 / local) - revision {manifest.revision}")
    sys.exit(broken)


@click.command()
@click.argument("fqrn", required=False)
@site_options
def info(fqrn: str | None, *, root: str) -> None:
    """Show what a repository is and how it is published."""
    site = site_at(root)
    repository = PublishedRepository.open(site, chosen_repository(site, fqrn))
    with reading(repository.settings) as scratch:
        own, below = repository.tree(scratch).root().counters()
    settings, manifest, total = repository.settings, repository.manifest, own + below
    whitelist = repository.document(WHITELIST)
    expires = parse_whitelist(split_signed(whitelist).payload).expires if whitelist else "missing"
    facts = {
        "Repository name": settings.fqrn,
        "Stratum0 URL": settings.url,
        "Storage": repository.storage.place,
        "Revision": manifest.revision,
        "Root hash": manifest.root_catalog,
        "Published": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(manifest.timestamp)),
        "Whitelist expires": expires,
        "Hash algorithm": settings.algorithm.name.lower(),
        "Compression": settings.compression + (" (cvfs clients only)" if settings.compression == "zstd" else ""),
        "Garbage collection": "yes" if manifest.garbage_collectable else "no",
        "TTL": manifest.ttl,
        "Entries": total.entries,
        "Nested catalogs": total.nested,
        "Bytes": total.file_size,
    }
    for name, value in facts.items():
        write_line(f"{name + ':':<20} {value}")
