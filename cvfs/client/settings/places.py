"""Where the files lie that configuration names: a tree that was moved as a whole, copies of others; reads, never writes."""

import os
import re

from cvfs.client.local_file import read_start
from cvfs.errors import UsageError

STANDARD_ETC = "/etc/cvmfs"
LARGEST_FILE = 256 * 1024
_MOST_NAMES = 1000
# Parameters that name files of the configuration itself, some of them several with `:`.
_NAMING_FILES = frozenset(
    ("CVMFS_KEYS_DIR", "CVMFS_PUBLIC_KEY", "CVMFS_BLACKLIST", "CVMFS_UID_MAP", "CVMFS_GID_MAP", "CVMFS_TRUSTED_CERTS")
) | {"X509_CERT_DIR", "X509_CERT_BUNDLE"}


class Places:
    """`moved` says for a place as files name it where it lies; files may be included from `roots` only."""

    def __init__(self, etc: str) -> None:
        self.etc = etc
        self._moved: list[tuple[str, str]] = []
        self._roots = [etc]
        self._copies: list[str] = []
        if etc != STANDARD_ETC:
            self._moved.append((STANDARD_ETC, etc))

    def move(self, named: str, lies: str) -> None:
        """From here on everything below `named` is looked for below `lies`, a copy of what others have published."""
        self._moved.append((named.rstrip("/"), lies))
        self._copies.append(lies)

    def allow(self, directory: str) -> None:
        """Files below it may be included. It is the administrator's, who may link where he likes."""
        self._roots.append(directory)

    def here(self, path: str) -> str:
        """Where a file lies that is named so."""
        for named, lies in self._moved:
            if path == named or path.startswith(named + "/"):
                return lies + path[len(named) :]
        return path

    def in_value(self, name: str, text: str) -> str:
        """The value of a parameter, with the files it names where they lie."""
        if name not in _NAMING_FILES:
            return text
        return ":".join(self.here(part) for part in text.split(":"))

    def included(self, path: str, named: str) -> str:
        """The path of a file to include. Raises UsageError if it lies elsewhere."""
        found = os.path.normpath(path)
        if any(_below(found, root) for root in self._roots) or any(_stays_below(found, copy) for copy in self._copies):
            return found
        raise UsageError(f"{named} lies outside of {self.etc}: copy it there")

    @staticmethod
    def read(path: str) -> str | None:
        """The text of a file, None if there is none. Raises UsageError for one that is too large or not readable."""
        try:
            content = read_start(path, LARGEST_FILE + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from error
        if len(content) > LARGEST_FILE or b"\0" in content:
            raise UsageError(f"{path}: no configuration file: larger than {LARGEST_FILE} bytes, or not text")
        return content.decode("utf-8", "surrogateescape")


def _below(path: str, root: str) -> bool:
    return path.startswith(root.rstrip("/") + "/")


def _stays_below(path: str, copy: str) -> bool:
    """Whether it lies in a copy, all links followed: several in a row lead further than each of them."""
    # Followed once: an update puts another copy in this place.
    top = os.path.realpath(copy)
    return _below(path, copy) and _below(os.path.realpath(top + path[len(copy.rstrip("/")) :]), top)


def files_named(directory: str, pattern: str) -> list[str]:
    """The paths of a directory whose names fit, sorted; none if there is no such directory."""
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UsageError(f"{directory}: {error.strerror}") from error
    fitting = sorted(name for name in names if re.fullmatch(pattern, name))
    return [os.path.join(directory, name) for name in fitting[:_MOST_NAMES]]
