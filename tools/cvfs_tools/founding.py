"""cvfs-server mkfs."""

import dataclasses
import re

import click

from cvfs.chunking import ChunkSizes
from cvfs.errors import FormatError, UsageError
from cvfs.hashes import Algorithm
from cvfs_server.mkfs import NewRepository
from cvfs_server.mkfs import mkfs as make_repository
from cvfs_server.resign import DEFAULT_DAYS
from cvfs_server.settings import default_settings, in_s3
from cvfs_tools.running import write_line
from cvfs_tools.server_options import site_at, site_options

_COMPRESSION_NOTES = {
    "zlib": "zlib level 6: every client reads it, byte-identical to the original's objects",
    "zlib-fast": "fast deflate: every client reads it, seven times faster, a tenth larger",
    "zstd": "zstd: fastest and small, but only cvfs clients read it",
    "none": "stored as they are: every client reads it",
}
_CHUNK_SIZES = re.compile(r"(\d+):(\d+):(\d+)")


@click.command()
@click.argument("fqrn")
@click.option("-w", "--url", metavar="URL", help="URL under which clients find it")
@click.option("-s", "--s3-config", metavar="FILE", help="Publish into the S3 bucket that FILE names; -w is its URL")
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
    s3_config: str | None,
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
    if s3_config:
        if not url:
            raise UsageError("mkfs -s needs -w URL as well: where clients find what is in the bucket")
        settings = in_s3(settings, s3_config, url)
    make_repository(site, settings, NewRepository(days=days))
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
