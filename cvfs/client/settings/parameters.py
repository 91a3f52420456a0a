"""Typed access to `CVMFS_*` parameters; a value that makes no sense is refused with the parameter's name."""

import re
from collections.abc import Mapping

from cvfs.errors import FormatError, UsageError
from cvfs.hashes import ContentHash, ObjectKind

_TRUE = frozenset({"yes", "on", "1", "true"})
_FALSE = frozenset({"no", "off", "0", "false"})
_LARGEST = 2**31 - 1


class Parameters:
    """The parameters of one repository, with the substitutions of CernVM-FS. Everything raises UsageError."""

    def __init__(self, fqrn: str, parameters: Mapping[str, str]) -> None:
        self.fqrn = fqrn
        self._parameters = parameters

    def text(self, name: str, default: str = "") -> str:
        """The value, `@fqrn@` and `@org@` filled in."""
        value = self._parameters.get(name, default)
        return value.replace("@fqrn@", self.fqrn).replace("@org@", self.fqrn.split(".")[0])

    def optional(self, name: str) -> str | None:
        """The value, None if it is empty or not set."""
        return self.text(name).strip() or None

    def number(self, name: str, default: int, least: int = 0) -> int:
        """A decimal number not below `least`; an empty value is the default."""
        text = self.text(name).strip() or str(default)
        try:
            value = int(text)
        except ValueError as error:
            raise UsageError(f"{name}={text}: a number is needed") from error
        if not least <= value <= _LARGEST:
            raise UsageError(f"{name}={text}: a number from {least} to {_LARGEST} is needed")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """yes, on, 1, true or their opposites."""
        value = self.text(name).strip().lower() or ("yes" if default else "no")
        if value not in _TRUE | _FALSE:
            raise UsageError(f"{name}={value}: yes or no is needed")
        return value in _TRUE

    def words(self, name: str, separators: str) -> tuple[str, ...]:
        """The parts of a list, blanks around them removed, empty ones left out."""
        parts = re.split(f"[{re.escape(separators)}]", self.text(name))
        return tuple(part.strip() for part in parts if part.strip())

    def servers(self, name: str) -> tuple[str, ...]:
        """URLs separated by `;`."""
        return tuple(url.rstrip("/") for url in self.words(name, ";"))

    def root_hash(self, name: str) -> ContentHash | None:
        """The hash of a root catalog."""
        value = self.text(name)
        return parse_root_hash(name, value) if value else None

    def all(self) -> dict[str, str]:
        """Every parameter as it was given, also those that nobody here knows."""
        return dict(self._parameters)


def parse_root_hash(name: str, text: str) -> ContentHash:
    """The value of `name` as the hash of a root catalog."""
    try:
        return ContentHash.parse(text, ObjectKind.CATALOG)
    except FormatError as error:
        raise UsageError(f"{name}={text}: {error}") from error
