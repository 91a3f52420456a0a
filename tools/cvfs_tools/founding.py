"""cvfs-server mkfs, import, migrate, rmfs, skeleton."""

import dataclasses
import os
import re
import sys

import click

from cvfs.chunking import ChunkSizes
from cvfs.errors import CvfsError, FormatError, UsageError
from cvfs.hashes import Algorithm
from cvfs_server.founding.adoption import Adoption, adopt
from cvfs_server.founding.migration import migrate as migrate_configuration
from cvfs_server.founding.mkfs import NewRepository, make_skeleton
from cvfs_server.founding.mkfs import mkfs as make_repository
from cvfs_server.founding.ownership import current_owner, owner_named
from cvfs_server.founding.removal import remove_repository
from cvfs_server.repoinfo import update_site_info
from cvfs_server.settings import RepositorySettings, default_settings, in_s3, load_settings, with_upstream
from cvfs_server.signing.keychain import MASTER_KEY
from cvfs_server.signing.resign import DEFAULT_DAYS
from cvfs_server.site import Site
from cvfs_tools.running import one_line, write_line
from cvfs_tools.server_options import chosen_repository, confirm, site_at, site_options

_COMPRESSION_NOTES = {
    "zlib": "zlib level 6: every client reads it, byte-identical to the original's objects",
    "zlib-fast": "fast deflate: every client reads it, seven times faster, a tenth larger",
    "zstd": "zstd: fastest and small, but only cvfs clients read it",
    "none": "stored as they are: every client reads it",
}
_CHUNK_SIZES = re.compile(r"(\d+):(\d+):(\d+)")
_UNION = "overlayfs"


@click.command()
@click.argument("fqrn")
@click.option("-w", "--url", metavar="URL", help="URL under which clients find it; with -s that of the bucket")
@click.option("-u", "--upstream", metavar="WHERE", help="Where published files are: local,TMP,DIR or S3,TMP,ALIAS@FILE")
@click.option("-s", "--s3-config", metavar="FILE", help="Publish into the S3 bucket that FILE names; -w is its URL")
@click.option("-o", "--owner", metavar="USER", help="User who publishes, to whom all of it belongs  [default: you]")
@click.option("-k", "--keys", metavar="DIR", help="Take the keys that are in DIR")
@click.option(
    "-a", "--hash-algorithm", metavar="NAME", default="sha1", help="sha1, rmd160 or shake128", show_default=True
)
@click.option(
    "-Z", "--compression", metavar="NAME", default="zlib", help="zlib, zlib-fast, zstd or none", show_default=True
)
@click.option("-z", "--garbage-collection", is_flag=True, help="Collect garbage automatically (allowed it is always)")
@click.option("-g", "--no-autotags", is_flag=True, help="No generic tags at each publish")
@click.option(
    "-G", "--autotag-span", metavar="DATE", default="", help="Drop generic tags then, for instance '4 weeks ago'"
)
@click.option("-v", "--volatile", is_flag=True, help="Clients forget its contents before those of others")
@click.option("-X", "--external", is_flag=True, help="Contents are on other servers, only their hashes are published")
@click.option("-x", "--proxy", metavar="URL", default="", help="Proxy on the way to the repository's own URL")
@click.option(
    "-f", "--union", metavar="TYPE", default=_UNION, help="Union file system of transactions", show_default=True
)
@click.option("-m", "--replicable", is_flag=True, help="Mark it as master of replicas (always so)")
@click.option("-p", "--no-apache", is_flag=True, help="Leave Apache alone (always so)")
@click.option("-V", "--voms", metavar="TEXT", help="Access control (not supported)")
@click.option("-R", "--masterkeycard", is_flag=True, help="Master key on a smart card (not supported)")
@click.option(
    "--days", metavar="DAYS", type=int, default=DEFAULT_DAYS, show_default=True, help="Validity of the whitelist"
)
@click.option("--ttl", type=int, metavar="SECONDS", help="How long clients wait before they look for a new revision")
@click.option("--chunk-sizes", metavar="MIN:AVG:MAX", help="Bytes of the pieces of large files")
@site_options
def mkfs(
    fqrn: str,
    *,
    s3_config: str | None,
    upstream: str | None,
    url: str | None,
    owner: str | None,
    keys: str | None,
    hash_algorithm: str,
    compression: str,
    garbage_collection: bool,
    no_autotags: bool,
    autotag_span: str,
    volatile: bool,
    external: bool,
    proxy: str,
    union: str,
    voms: str | None,
    masterkeycard: bool,
    days: int,
    ttl: int | None,
    chunk_sizes: str | None,
    root: str,
    **always: bool,
) -> None:
    """Create the repository FQRN: keys, configuration, an empty first revision."""
    del always  # what users of the original ask for with -m and -p is what happens here anyway
    _check_union(union)
    _refuse_unsupported(voms, masterkeycard=masterkeycard)
    site = site_at(root)
    settings = dataclasses.replace(
        _placed(site, fqrn, url, upstream, s3_config),
        user=owner or current_owner().name,
        algorithm=_algorithm(hash_algorithm),
        compression="zlib" if compression == "default" else compression,
        auto_tag=not no_autotags,
        auto_tag_timespan=autotag_span,
        auto_gc=garbage_collection,
        external=external,
        server_proxy=proxy,
    )
    settings = dataclasses.replace(
        settings,
        ttl=settings.ttl if ttl is None else ttl,
        chunk_sizes=_sizes(chunk_sizes) if chunk_sizes else settings.chunk_sizes,
    )
    make_repository(site, settings, NewRepository(days, volatile=volatile, keys=keys or ""))
    _list_repositories(site)
    _tell_new(site, settings)


@click.command(name="import")
@click.argument("fqrn")
@click.option("-w", "--url", metavar="URL", help="URL under which clients find it, its name included")
@click.option("-u", "--upstream", metavar="WHERE", help="Where its files are: local,TMP,DIR or S3,TMP,ALIAS@FILE")
@click.option("-o", "--owner", metavar="USER", help="User who publishes, to whom all of it belongs  [default: you]")
@click.option("-k", "--keys", metavar="DIR", help="Where its keys are  [default: their place on this machine]")
@click.option("-g", "--chown", is_flag=True, help="Give its files to the owner")
@click.option("-r", "--new-whitelist", is_flag=True, help="Sign a new whitelist, with the master key")
@click.option("-t", "--new-key", is_flag=True, help="Make a new signing key; needs -r")
@click.option("-m", "--replicable", is_flag=True, help="Mark it as master of replicas")
@click.option(
    "-f", "--union", metavar="TYPE", default=_UNION, help="Union file system of transactions", show_default=True
)
@click.option("-p", "--no-apache", is_flag=True, help="Leave Apache alone (always so)")
@click.option("-l", "--legacy", is_flag=True, help="Catalogs of CernVM-FS 2.0 (not supported)")
@click.option("-s", "--statistics", is_flag=True, help="Statistics of -l (not supported)")
@click.option("-R", "--masterkeycard", is_flag=True, help="Master key on a smart card (not supported)")
@click.option(
    "--days", metavar="DAYS", type=int, default=DEFAULT_DAYS, show_default=True, help="Validity of the new whitelist"
)
@site_options
def import_repository(
    fqrn: str,
    *,
    url: str | None,
    upstream: str | None,
    owner: str | None,
    keys: str | None,
    chown: bool,
    new_whitelist: bool,
    new_key: bool,
    replicable: bool,
    union: str,
    legacy: bool,
    masterkeycard: bool,
    days: int,
    root: str,
    **ignored: bool,
) -> None:
    """Publish from now on, on this machine, what was published elsewhere: by cvfs or by the original."""
    del ignored
    _check_union(union)
    _refuse_unsupported(None, masterkeycard=masterkeycard)
    if legacy:
        raise UsageError(
            "import -l: catalogs of CernVM-FS 2.0 are not migrated: publish the tree into a new repository"
        )
    site = site_at(root)
    settings = _placed(site, fqrn, url, upstream, None)
    settings = dataclasses.replace(settings, user=owner or current_owner().name)
    how = Adoption(keys or "", chown, new_whitelist, new_key, replicable, days)
    manifest = adopt(site, settings, how)
    _list_repositories(site)
    write_line(f"Repository {fqrn} imported at revision {manifest.revision}; its settings: {site.configuration(fqrn)}")


@click.command()
@click.argument("names", metavar="[FQRN]...", nargs=-1)
@site_options
def migrate(names: tuple[str, ...], *, root: str) -> None:
    """Bring the configuration of repositories that another version made to the present layout."""
    site, failed = site_at(root), 0
    for name in [chosen_repository(site, name) for name in names or [None]]:
        try:
            before = migrate_configuration(site, name)
        except CvfsError as error:
            print(one_line(f"cvfs-server: {name}: {error}"), file=sys.stderr)
            failed = error.exit_status
        else:
            write_line(
                f"Repository '{name}' is already up-to-date." if before is None else f"{name}: migrated from {before}"
            )
    sys.exit(failed)


@click.command()
@click.argument("names", metavar="[FQRN]...", nargs=-1)
@click.option("-f", "--force", is_flag=True, help="Do not ask")
@click.option("-p", "--preserve", is_flag=True, help="Keep published files and keys")
@site_options
def rmfs(names: tuple[str, ...], *, force: bool, preserve: bool, root: str) -> None:
    """Remove repositories from this machine: configuration, spool area, published files and keys."""
    site = site_at(root)
    what = (
        "REMOVE THE CERNVM-FS REPOSITORY INFRASTRUCTURE for {}!"
        if preserve
        else ("WIPE OUT THE CERNVM-FS REPOSITORY {} INCLUDING SIGNING KEYS!")
    )
    for name in [chosen_repository(site, name) for name in names or [None]]:
        stays = load_settings(site, name).s3
        confirm(f"You are about to {what.format(name)}", force=force)
        for place in remove_repository(site, name, preserve=preserve):
            print(one_line(f"cvfs-server: {place} was left: there are files of others in it"), file=sys.stderr)
        if stays and not preserve:
            print(one_line(f"cvfs-server: what is published stays in {stays}: remove it there"), file=sys.stderr)
        _list_repositories(site)
        write_line(f"CernVM-FS repository {name} wiped out!")


@click.command()
@click.argument("directory", type=click.Path(file_okay=False))
@click.option("-o", "--owner", metavar="USER", help="To whom the directories belong  [default: you]")
def skeleton(directory: str, *, owner: str | None) -> None:
    """Make the empty directories of a repository's published files."""
    make_skeleton(os.path.abspath(directory), owner_named(owner or current_owner().name))
    write_line(f"Created repository skeleton in {directory}")


def _placed(site: Site, fqrn: str, url: str | None, upstream: str | None, s3_config: str | None) -> RepositorySettings:
    """The settings of a new repository, as far as they say where it is."""
    settings = default_settings(site, fqrn)
    if s3_config and not url:
        raise UsageError("mkfs -s needs -w URL as well: where clients find what is in the bucket")
    if s3_config:
        if upstream:
            raise UsageError("mkfs: -s says where published files are, and so does -u: one of them")
        return in_s3(settings, s3_config, url or "")
    settings = with_upstream(settings, upstream) if upstream else settings
    if settings.s3 and not url:
        raise UsageError("an upstream in S3 needs -w URL as well: where clients find what is in the bucket")
    return dataclasses.replace(settings, url=url or settings.url)


def _list_repositories(site: Site) -> None:
    """What this server offers, for monitoring; nothing depends on it, so it fails nothing."""
    try:
        update_site_info(site)
    except CvfsError as error:
        print(one_line(f"cvfs-server: warning: the list of repositories was not updated: {error}"), file=sys.stderr)


def _tell_new(site: Site, settings: RepositorySettings) -> None:
    fqrn, master = settings.fqrn, site.key(settings.fqrn, MASTER_KEY)
    write_line(f"Repository {fqrn} created, compression is {_COMPRESSION_NOTES[settings.compression]}")
    if settings.auto_tag and settings.auto_gc and not settings.auto_tag_timespan:
        write_line(
            "Note: as long as every revision keeps its automatic tag (see -g and -G), there is no garbage to collect"
        )
    if os.path.exists(master):
        write_line(f"Clients need {site.key(fqrn, 'pub')}; keep {master} in a safe place")
    else:
        write_line(f"Clients need {site.key(fqrn, 'pub')}, and a whitelist: see cvfs-server masterkey --export-request")


def _check_union(union: str) -> None:
    if union != _UNION:
        raise UsageError(f"-f {union}: transactions work with {_UNION} only")


def _refuse_unsupported(voms: str | None, *, masterkeycard: bool) -> None:
    if voms is not None:
        raise UsageError("-V: repositories with access control cannot be published; leave it out")
    if masterkeycard:
        raise UsageError("-R: smart cards are not supported; the master key may stay on another machine, see masterkey")


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
