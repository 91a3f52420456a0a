"""What an S3 configuration file says, as one frozen value; reads no network, and no message of it holds a key.

The parameters are the original's. One that cannot be obeyed is refused by name; none is passed over in silence.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from cvfs.client.settings import parse_configuration
from cvfs.errors import NotFound, UsageError

_MAX_CONFIGURATION = 2**16
_LARGEST_BATCH = 1000  # of DeleteObjects, by the protocol
_ACLS = (
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
)
_PREFIX = "CVMFS_S3_"
_REFUSED = {
    "ACCOUNTS": "one account holds a repository",
    "BUCKETS_PER_ACCOUNT": "one bucket holds a repository, CVMFS_S3_BUCKET names it",
}
_KNOWN = (
    *("HOST", "PORT", "BUCKET", "ACCESS_KEY", "SECRET_KEY", "REGION", "FLAVOR", "DNS_BUCKETS", "USE_HTTPS", "PROXY"),
    *("TIMEOUT", "MAX_RETRIES", "PEEK_BEFORE_PUT", "MAX_NUMBER_OF_PARALLEL_CONNECTIONS", "X_AMZ_ACL"),
    *("BATCH_DELETE", "BATCH_DELETE_SIZE"),
)


@dataclass(frozen=True, slots=True)
class S3Upstream:
    """Where a repository lies in S3, as CVMFS_UPSTREAM_STORAGE says it: a directory of this machine for what is on its
    way, the name before all keys, and the file that says which bucket."""

    staging: str
    alias: str
    configuration: str

    @classmethod
    def parse(cls, text: str, where: str) -> Self:
        """From `S3,<staging>,<alias>@<file>`. Raises UsageError."""
        kind, _, rest = text.partition(",")
        staging, _, place = rest.partition(",")
        alias, _, configuration = place.partition("@")
        good = staging.startswith("/") and configuration.startswith("/") and _is_key(alias)
        if kind.lower() != "s3" or not good:
            raise UsageError(f"{where}={text!r}: expected S3,<staging directory>,<alias>@<configuration file>")
        return cls(staging, alias, configuration)

    @classmethod
    def of_new(cls, fqrn: str, spool: str, configuration: str, url: str) -> Self:
        """That of a new repository whose clients will read below `url`, as the original lays it out: a path of the URL
        precedes the name, unless it is the bucket's. Raises NotFound, UsageError."""
        where = os.path.abspath(configuration)
        directory = urlsplit(url).path.strip("/") if load_s3_settings(where).dns_buckets else ""
        return cls(os.path.join(spool, "tmp"), f"{directory}/{fqrn}" if directory else fqrn, where)

    def __str__(self) -> str:
        return f"S3,{self.staging},{self.alias}@{self.configuration}"


@dataclass(frozen=True, slots=True)
class S3Settings:
    """How a bucket is reached. `timeout` in seconds without a byte; `retries` of a request that failed.

    `connections` at a time, for all processes of a publisher together; `acl` may be empty: then none is sent.
    """

    endpoint: str
    bucket: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    where: str = ""
    region: str = "us-east-1"
    signature: str = "s3v4"
    dns_buckets: bool = True
    proxy: str = ""
    timeout: int = 60
    retries: int = 3
    connections: int = 16
    peek: bool = True
    acl: str = "public-read"
    delete_batch: int = _LARGEST_BATCH

    @property
    def parallel(self) -> int:
        """The connections of one process, there being as many workers as processors, at least two."""
        return max(1, math.ceil(self.connections / max(2, os.cpu_count() or 1)))


def load_s3_settings(path: str) -> S3Settings:
    """The settings in a configuration file. Raises NotFound, UsageError."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read(_MAX_CONFIGURATION + 1)
    except OSError as error:
        raise NotFound(
            f"S3 configuration {path}: {error.strerror}; CVMFS_UPSTREAM_STORAGE or mkfs -s names it"
        ) from error
    if len(text) > _MAX_CONFIGURATION:
        raise UsageError(f"{path}: longer than {_MAX_CONFIGURATION} bytes, refused")
    return s3_settings(parse_configuration(text, path), path)


def s3_settings(values: Mapping[str, str], where: str) -> S3Settings:
    """The settings that parameters mean; `where` is named in messages. Raises UsageError."""
    parameters = _Parameters(values, where)
    return S3Settings(
        endpoint=parameters.endpoint(),
        bucket=parameters.needed("BUCKET"),
        access_key=parameters.needed("ACCESS_KEY"),
        secret_key=parameters.needed("SECRET_KEY"),
        where=where,
        region=parameters.text("REGION") or "us-east-1",
        signature=parameters.choice("FLAVOR", {"": "s3v4", "awsv4": "s3v4", "awsv2": "s3"}),
        dns_buckets=parameters.flag("DNS_BUCKETS", default=True),
        proxy=parameters.proxy(),
        timeout=parameters.number("TIMEOUT", 60, 1, 3600),
        retries=parameters.number("MAX_RETRIES", 3, 0, 100),
        connections=parameters.number("MAX_NUMBER_OF_PARALLEL_CONNECTIONS", 16, 1, 1000),
        peek=parameters.flag("PEEK_BEFORE_PUT", default=True),
        acl=parameters.choice("X_AMZ_ACL", {acl: acl for acl in ("", *_ACLS)}, "public-read"),
        delete_batch=parameters.delete_batch(),
    )


class _Parameters:
    """Typed access; UsageError names the file and the parameter, never a key."""

    def __init__(self, values: Mapping[str, str], where: str) -> None:
        self._values = {name.removeprefix(_PREFIX): text for name, text in values.items() if name.startswith(_PREFIX)}
        self._where = where
        for name in self._values:
            if name not in _KNOWN:
                raise self._bad(name, _REFUSED.get(name, "no such parameter"))

    def text(self, name: str) -> str:
        return self._values.get(name, "")

    def needed(self, name: str) -> str:
        text = self.text(name)
        if not text:
            raise self._bad(name, "is missing")
        return text

    def number(self, name: str, default: int, least: int, most: int) -> int:
        text = self.text(name) or str(default)
        if not text.isascii() or not text.isdigit() or len(text) > 9 or not least <= int(text) <= most:
            raise self._bad(name, f"{text!r} is no number from {least} to {most}")
        return int(text)

    def flag(self, name: str, *, default: bool) -> bool:
        text = self.text(name).lower() or ("yes" if default else "no")
        if text not in {"true", "yes", "on", "1", "false", "no", "off", "0"}:
            raise self._bad(name, f"{text!r} is neither yes nor no")
        return text in {"true", "yes", "on", "1"}

    def choice(self, name: str, meanings: Mapping[str, str], default: str = "") -> str:
        text = self._values.get(name, default)
        if text not in meanings:
            raise self._bad(name, f"{text!r} is none of {', '.join(word for word in meanings if word)}")
        return meanings[text]

    def endpoint(self) -> str:
        """The server's URL: its name may bring a port along."""
        scheme = "https" if self.flag("USE_HTTPS", default=False) else "http"
        host, port = self.needed("HOST"), self.text("PORT")
        url = f"{scheme}://{host}" + (f":{self.number('PORT', 0, 1, 65535)}" if port else "")
        if "/" in host or not _is_server(url):
            raise self._bad("HOST", f"{host!r} is no name of a server: write it without http:// and without a path")
        return url

    def proxy(self) -> str:
        text = self.text("PROXY")
        if text.upper() in {"", "DIRECT"}:
            return ""
        url = text if "://" in text else f"http://{text}"
        if not _is_server(url):
            raise self._bad("PROXY", "is no URL of a proxy")
        return url

    def delete_batch(self) -> int:
        if not self.flag("BATCH_DELETE", default=True):
            return 1
        return min(_LARGEST_BATCH, self.number("BATCH_DELETE_SIZE", _LARGEST_BATCH, 1, 10**6))

    def _bad(self, name: str, trouble: str) -> UsageError:
        return UsageError(f"{self._where}: {_PREFIX}{name}: {trouble}")


def _is_server(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_key(alias: str) -> bool:
    return all(part not in {"", ".", ".."} for part in alias.split("/"))
