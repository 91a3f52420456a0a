"""The configuration of a repository brought to the present layout of places; nothing that is published is touched.

Catalogs of older schemas are brought to the newest one by the next publish that changes them. Source: FORMAT section 5.11.
"""

import re

from cvfs.errors import UsageError
from cvfs_server.repository import PublishedRepository
from cvfs_server.settings import LAYOUT_REVISION, load_settings
from cvfs_server.signing.resign import read_small_file, replace_keeping_owner
from cvfs_server.site import Site

_VERSION = re.compile(rb"^[ \t]*CVMFS_CREATOR_VERSION=(.*)$", re.MULTILINE)
_OLD_UPSTREAM = re.compile(rb"^([ \t]*CVMFS_UPSTREAM_STORAGE=)local:([^\s'\",;#$]+)[ \t]*$", re.MULTILINE)
_ENTRY_WARNING = re.compile(rb"^[ \t]*CVMFS_CATALOG_ENTRY_WARN_THRESHOLD=([0-9]+)[ \t]*$", re.MULTILINE)


def migrate(site: Site, fqrn: str) -> str | None:
    """Rewrite what the present layout calls differently in server.conf; everything else stays, to the byte.

    Returns the version it had, None if there was nothing to do. Raises UsageError for one that is newer, and TrustError or
    FormatError if the repository cannot be published with what the file says.
    """
    path = site.configuration(fqrn)
    text = read_small_file(path)
    before = _version(text)
    if before.isdigit() and int(before) > LAYOUT_REVISION:
        raise UsageError(
            f"{path}: layout {before} is newer than {LAYOUT_REVISION}, which this version knows: update cvfs"
        )
    if before == str(LAYOUT_REVISION):
        return None
    replace_keeping_owner(path, _migrated(text))
    try:
        load_settings(site, fqrn)
        PublishedRepository.open(site, fqrn)
    except BaseException:
        replace_keeping_owner(path, text)
        raise
    return before


def _version(text: bytes) -> str:
    found = _VERSION.findall(text)
    # What comes last counts, as in the shell.
    return found[-1].strip().strip(b"'\"").decode("ascii", "replace") if found else "unknown"


def _migrated(text: bytes) -> bytes:
    text = _OLD_UPSTREAM.sub(rb"\g<1>local,\g<2>/data/txn,\g<2>", text)
    text = _ENTRY_WARNING.sub(_limits, text)
    line = b"CVMFS_CREATOR_VERSION=%d" % LAYOUT_REVISION
    if _VERSION.search(text):
        return _VERSION.sub(line, text)
    return text + (b"" if text.endswith(b"\n") or not text else b"\n") + line + b"\n"


def _limits(found: re.Match[bytes]) -> bytes:
    thousands = int(found[1]) // 1000
    return b"CVMFS_ROOT_KCATALOG_LIMIT=%d\nCVMFS_NESTED_KCATALOG_LIMIT=%d" % (thousands, thousands)
