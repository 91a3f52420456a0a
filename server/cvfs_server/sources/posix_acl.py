"""Access control lists: the text that archives carry into the bytes that the kernel and catalogs hold; pure but for names of
users and groups, which are looked up on this machine where the text has no numbers.

Source: acl(5); the kernel's posix_acl_xattr.h; FORMAT section 5.7.
"""

import grp
import pwd
import struct

from cvfs.errors import FormatError

_VERSION = struct.pack("<I", 2)
_ENTRY = struct.Struct("<HHI")
_NOBODY = 0xFFFFFFFF
_PERMISSIONS = {"r": 4, "w": 2, "x": 1, "-": 0}
# Tags without and with a name.
_TAGS = {"user": (0x01, 0x02), "group": (0x04, 0x08), "mask": (0x10, 0x10), "other": (0x20, 0x20)}
_SHORT = {"u": "user", "g": "group", "m": "mask", "o": "other"}
# What the mode says already.
_PLAIN_TAGS = frozenset({0x01, 0x04, 0x20})


def pack_acl(text: bytes) -> bytes | None:
    """The attribute's value; None if the list says no more than the mode. Raises FormatError, for unknown names too."""
    lines = text.decode("utf-8", "surrogateescape").replace("\n", ",").split(",")
    entries = [_entry(stripped) for line in lines if (stripped := line.split("#", 1)[0].strip())]
    if {tag for tag, _, _ in entries} <= _PLAIN_TAGS:
        return None
    # The kernel wants them by tag, then by number.
    return _VERSION + b"".join(_ENTRY.pack(*entry) for entry in sorted(entries))


def _entry(line: str) -> tuple[int, int, int]:
    kind, *rest = line.split(":")
    kind = _SHORT.get(kind, kind)
    # `mask:rwx` and `mask::rwx` are both written.
    name, permissions, *number = rest if len(rest) > 1 else ["", *rest, ""][:2]
    if kind not in _TAGS or not permissions or not set(permissions) <= _PERMISSIONS.keys() or number[1:]:
        raise FormatError(f"{line[:80]!r} is no entry of an access control list")
    bits = 0
    for letter in permissions:
        bits |= _PERMISSIONS[letter]
    owned, named = _TAGS[kind]
    return (named, bits, _number(kind, name, number)) if name else (owned, bits, _NOBODY)


def _number(kind: str, name: str, number: list[str]) -> int:
    text = number[0] if number else name
    if text.isascii() and text.isdigit() and int(text) < _NOBODY:
        return int(text)
    try:
        return pwd.getpwnam(name).pw_uid if kind == "user" else grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        raise FormatError(f"an access control list names the {kind} {name[:80]!r}, unknown on this machine") from None
