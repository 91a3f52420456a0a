"""The repository's meta info, a JSON object that people read and nothing depends on; pure. Source: FORMAT section 8.1."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from cvfs.errors import FormatError

MAX_SIZE = 64 * 2**10
KEYS = (
    "administrator",
    "email",
    "organisation",
    "description",
    "url",
    "recommended-stratum0",
    "recommended-stratum1s",
    "custom",
)


def parse(data: bytes) -> dict[str, Any]:
    """The members of the object; none is required, others than KEYS are allowed. Raises FormatError."""
    if len(data) > MAX_SIZE:
        raise FormatError(f"meta info of {len(data)} bytes: at most {MAX_SIZE} are read")
    try:
        members = json.loads(data.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"meta info is no JSON: {error}") from error
    if not isinstance(members, dict):
        raise FormatError("meta info is no JSON object")
    return members


def serialise(members: Mapping[str, Any]) -> bytes:
    """The object as text. Raises FormatError if JSON cannot hold it, or if it is longer than readers accept."""
    try:
        data = json.dumps(members, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise FormatError(f"meta info cannot be written as JSON: {error}") from error
    if len(data) > MAX_SIZE:
        raise FormatError(f"meta info of {len(data)} bytes: at most {MAX_SIZE} can be published")
    return data


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")
