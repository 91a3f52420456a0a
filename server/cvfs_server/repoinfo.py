"""What a site and its repositories say of themselves: the meta info object, and the documents below `info/v1`.

Source: FORMAT sections 8.1 to 8.3.
"""

import dataclasses
import json
import os
from typing import Any

from cvfs.compression import Compression
from cvfs.durable import replace_file
from cvfs.errors import CvfsError, FormatError, MissingObject, StoreFull, UsageError
from cvfs.format import metainfo
from cvfs.format.manifest import Manifest
from cvfs.hashes import ObjectKind
from cvfs.store.base import Wanted
from cvfs.store.verified import Verified
from cvfs_server.publishers import publishing
from cvfs_server.release import Revision, put_object, release
from cvfs_server.repository import PublishedRepository
from cvfs_server.settings import configured_repositories, load_settings
from cvfs_server.signing.keys import check_keys
from cvfs_server.site import Site
from cvfs_server.state import make_directory
from cvfs_server.tags.branches import refuse_checked_out

SCHEMA = 1
_MAX_FILE = 2**20
SKELETON: dict[str, Any] = {
    "administrator": "Your Name",
    "email": "you@organisation.org",
    "organisation": "Your Organisation",
    "description": "Repository content",
    "recommended-stratum0": "stratum 0 url",
    "recommended-stratum1s": ["stratum1 url", "stratum1 url"],
    "custom": {},
}


def read_metainfo(repository: PublishedRepository) -> bytes:
    """The meta info as it was published, nothing if there is none. Raises StoreError."""
    content = repository.manifest.metainfo
    if content is None:
        return b""
    return b"".join(Verified(repository.storage).read(Wanted(content, Compression.ZLIB)))


def metainfo_to_edit(repository: PublishedRepository) -> bytes:
    """What was published, or where that says nothing a form to be filled in. Raises StoreError."""
    data = read_metainfo(repository)
    is_empty = not data.strip() or data.strip() == b"{}"
    return json.dumps(SKELETON, indent=2).encode() + b"\n" if is_empty else data


def publish_metainfo(site: Site, fqrn: str, data: bytes) -> Manifest:
    """Let the present revision say `data` of itself, a JSON object.

    Raises UsageError for anything else, Locked, NotFound for a missing key, StoreFull.
    """
    try:
        metainfo.parse(data)
    except FormatError as error:
        raise UsageError(str(error)) from error
    settings = load_settings(site, fqrn)
    check_keys(site, fqrn)
    with publishing(settings, "update-repoinfo") as publisher:
        refuse_checked_out(settings, "a change of the meta info")
        repository = PublishedRepository.open(site, fqrn, publisher.storage)
        content = put_object(publisher.storage, settings.algorithm, ObjectKind.METAINFO, data)
        revision = Revision.again(repository.manifest, repository.history())
        return release(site, settings, dataclasses.replace(revision, metainfo=content), publisher)


def read_json(path: str) -> bytes:
    """A file that holds a JSON object. Raises UsageError naming what is wrong with it."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    try:
        metainfo.parse(data)
    except FormatError as error:
        raise UsageError(f"{path}: {error}") from error
    return data


def update_site_info(site: Site, meta: bytes | None = None) -> list[str]:
    """Write `repositories.json`, and `meta.json` where it is given or missing; the files. Raises StoreFull."""
    directory = f"{site.web_root}/info/v{SCHEMA}"
    make_directory(directory)
    written = {"repositories.json": _repositories(site)}
    if meta is not None or not os.path.exists(f"{directory}/meta.json"):
        chosen = ("administrator", "email", "organisation", "custom")
        written["meta.json"] = meta or json.dumps({key: SKELETON[key] for key in chosen}, indent=2).encode() + b"\n"
    for name, data in written.items():
        try:
            replace_file(f"{directory}/{name}", data)
        except OSError as error:
            raise StoreFull(f"cannot write {directory}/{name}: {error.strerror}") from error
    return [f"{directory}/{name}" for name in written]


def _repositories(site: Site) -> bytes:
    """The document of all repositories; whatever cannot be read is left out."""
    found = []
    for name in configured_repositories(site):
        try:
            fqrn = load_settings(site, name).fqrn
        except (CvfsError, MissingObject):
            continue
        alias = {"alias": name} if name != fqrn else {}
        found.append({"name": fqrn, **alias, "url": f"/cvmfs/{name}"})
    return json.dumps({"schema": SCHEMA, "repositories": found, "replicas": []}, indent=2).encode() + b"\n"
