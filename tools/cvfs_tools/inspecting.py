"""cvfs-server info, list, list-catalogs."""

import sys
import time

import click

from cvfs.errors import CvfsError
from cvfs_server.catalog_listing import ListedCatalog, list_catalogs
from cvfs_server.founding.mkfs import MASTER_REPLICA
from cvfs_server.repoinfo import read_metainfo
from cvfs_server.repository import PublishedRepository, reading
from cvfs_server.settings import configured_repositories
from cvfs_server.signing.expiry import EXPIRED, UNREACHABLE, WhitelistState, whitelist_state
from cvfs_server.site import Site
from cvfs_server.storage.base import Storage
from cvfs_server.storage.local import LocalStorage
from cvfs_server.tags.branches import checked_out
from cvfs_server.transaction.layout import Layout
from cvfs_server.transaction.record import is_open
from cvfs_tools.running import one_line, shown, write_line
from cvfs_tools.server_options import chosen_repository, site_at, site_options

_BRANCH, _TWIG = "\u2502  ", "\u251c\u2500 "


@click.command(name="list")
@site_options
def list_repositories(*, root: str) -> None:
    """List the repositories of this site; one that cannot be read does not hide the others."""
    site, broken = site_at(root), 0
    for fqrn in configured_repositories(site):
        try:
            repository = PublishedRepository.open(site, fqrn)
            state = _state(site, repository)
        except CvfsError as error:
            print(one_line(f"cvfs-server: {fqrn}: {error}"), file=sys.stderr)
            broken = error.exit_status
        else:
            kind = f"stratum0 / {_kind(repository.storage)}{state}"
            write_line(f"{fqrn} ({kind}) - revision {repository.manifest.revision}")
    sys.exit(broken)


def _kind(storage: Storage) -> str:
    return "local" if isinstance(storage, LocalStorage) else "S3"


def _state(site: Site, repository: PublishedRepository) -> str:
    """What is out of the ordinary, in the words of the original."""
    words = []
    if is_open(Layout.of(site, repository.settings)):
        words.append("in transaction")
    whitelist = whitelist_state(site, repository.settings, time.time())
    if whitelist.problem:
        unreachable = whitelist.problem.startswith(UNREACHABLE)
        words.append(UNREACHABLE if unreachable else EXPIRED)
    return "".join(f" - {word}" for word in words)


@click.command()
@click.argument("fqrn", required=False)
@click.option("-m", "--meta-info", is_flag=True, help="What the repository says of itself, as it was published")
@site_options
def info(fqrn: str | None, *, meta_info: bool, root: str) -> None:
    """Show what a repository is and how it is published."""
    site = site_at(root)
    repository = PublishedRepository.open(site, chosen_repository(site, fqrn))
    if meta_info:
        write_line(read_metainfo(repository).decode("utf-8", "surrogateescape").rstrip("\n"))
        return
    whitelist = whitelist_state(site, repository.settings, time.time())
    for name, value in _facts(repository, whitelist).items():
        write_line(f"{name + ':':<30}{value}")
    name, settings = repository.settings.fqrn, repository.settings
    for line in (
        _validity(whitelist),
        "",
        "Client configuration:",
        f"Add {name} to CVMFS_REPOSITORIES in /etc/cvmfs/default.local",
        f"Create /etc/cvmfs/config.d/{name}.conf and set",
        f"  CVMFS_SERVER_URL={settings.url}",
        f"  CVMFS_PUBLIC_KEY=/etc/cvmfs/keys/{name}.pub",
        f"Copy {site.key(name, 'pub')} to the client",
    ):
        write_line(line)


def _facts(repository: PublishedRepository, whitelist: WhitelistState) -> dict[str, object]:
    settings, manifest = repository.settings, repository.manifest
    with reading(settings) as scratch:
        own, below = repository.tree(scratch).root().counters()
    total = own + below
    return {
        "Repository name": settings.fqrn,
        "Stratum0 URL": settings.url,
        "Storage": repository.storage.place,
        "Revision": manifest.revision,
        "Root hash": manifest.root_catalog,
        "Published": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(manifest.timestamp)),
        "Stratum1 Replication Allowed": "yes" if repository.storage.has(MASTER_REPLICA) else "no",
        "Whitelist expires": whitelist.whitelist.expires if whitelist.whitelist else "missing",
        "Hash algorithm": settings.algorithm.name.lower(),
        "Compression": settings.compression + (" (cvfs clients only)" if settings.compression == "zstd" else ""),
        "Garbage collection": "yes" if manifest.garbage_collectable else "no",
        "TTL": manifest.ttl,
        "Entries": total.entries,
        "Nested catalogs": total.nested,
        "Bytes": total.file_size,
    }


def _validity(state: WhitelistState) -> str:
    if state.problem:
        return "Whitelist is expired" if state.problem == EXPIRED else state.problem
    return f"Whitelist is valid for another {state.days_left} days"


@click.command(name="list-catalogs")
@click.argument("fqrn", required=False)
@click.option("-s", "--sizes", is_flag=True, help="With the length of each catalog's file in bytes")
@click.option("-e", "--entries", is_flag=True, help="With the number of entries in each catalog")
@click.option("-h", "--hashes", is_flag=True, help="With the hash of each catalog")
@click.option("-x", "--machine", is_flag=True, help="Bare paths without the tree, for programs")
@site_options
def catalogs(fqrn: str | None, *, sizes: bool, entries: bool, hashes: bool, machine: bool, root: str) -> None:
    """List the catalogs of a repository, as a tree."""
    site = site_at(root)
    repository = PublishedRepository.open(site, chosen_repository(site, fqrn))
    checkout = checked_out(repository.settings)
    start = checkout.root if checkout else repository.manifest.root_catalog
    with reading(repository.settings) as scratch:
        for catalog in list_catalogs(repository, start, scratch):
            columns = _columns(catalog, sizes=sizes, entries=entries, hashes=hashes)
            tree = "" if machine else _indent(catalog.level)
            write_line(tree + " ".join([*columns, shown(catalog.path) or "/"]))


def _columns(catalog: ListedCatalog, *, sizes: bool, entries: bool, hashes: bool) -> list[str]:
    chosen = ((hashes, str(catalog.content)), (sizes, f"{catalog.size}B"), (entries, str(catalog.entries)))
    return [text for wanted, text in chosen if wanted]


def _indent(level: int) -> str:
    return _BRANCH * (level - 1) + _TWIG if level else ""
