"""One bucket of an S3 server: requests that end within a deadline, repeated within bounds; the only home of boto3.

Nothing of the environment is asked, and no key is in a message. It knows nothing of repositories.
"""

import base64
import datetime as dt
import hashlib
import os
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004  # the library's own, beside its HTTPClientError
    ConnectTimeoutError,
    HTTPClientError,
    ReadTimeoutError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from cvfs.errors import MissingObject, StoreError, StoreFull, Trouble, Unreachable
from cvfs_server.storage.s3_settings import S3Settings

PAGE = 1000
_PIECE = 256 * 1024
# An answer that comes slower than this, in bytes per second, is taken for none.
_SLOWEST = 1024
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0
_LONGEST_WORD = 2048
_ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})
_WAYS = (HTTPClientError, ConnectionError, ResponseParserError)
_PASSING = frozenset({"SlowDown", "RequestTimeout", "TooManyRequests", "BadDigest", "XAmzContentSHA256Mismatch"})
_NO_ROOM = frozenset({"QuotaExceeded", "EntityTooLarge", "InsufficientStorage", "XMinioStorageFull"})
_REMEDIES = {
    "NoSuchBucket": "CVMFS_S3_BUCKET names no bucket of this server",
    "InvalidAccessKeyId": "look at CVMFS_S3_ACCESS_KEY",
    "SignatureDoesNotMatch": "look at CVMFS_S3_ACCESS_KEY, _SECRET_KEY, _REGION and _FLAVOR",
    "AuthorizationHeaderMalformed": "look at CVMFS_S3_REGION",
    "RequestTimeTooSkewed": "the clock of this machine or of the server is wrong",
    "AccessDenied": "the account may not do this",
    "403": "the account may not do this",
    "AccessControlListNotSupported": "the bucket has no ACLs: set CVMFS_S3_X_AMZ_ACL= to nothing",
}


class Listed(NamedTuple):
    """What the server says of an object: key, bytes, its tag for the content, when it was written as Unix time."""

    key: str
    size: int
    etag: str
    written: float = 0

    def is_in(self, listed: "Mapping[str, Listed]") -> bool:
        """Whether it is among others with the same content."""
        found = listed.get(self.key)
        return found is not None and (found.size, found.etag) == (self.size, self.etag)


class Labels(NamedTuple):
    """What readers are told of an object over HTTP."""

    content_type: str
    cache_control: str


@dataclass(frozen=True, slots=True)
class Bucket:
    """Objects by key. Used by several threads; copies of it work in other processes.

    Everything raises Unreachable if no attempt had an answer, StoreFull if the server refuses.
    """

    settings: S3Settings

    @property
    def name(self) -> str:
        """Server and bucket, for messages."""
        return f"{self.settings.endpoint}/{self.settings.bucket}"

    def create(self) -> None:
        """Make the bucket, if it is not there."""
        try:
            self._ask("head_bucket", "")
        except MissingObject:
            region = self.settings.region
            place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
            self._ask("create_bucket", "", **place)

    def head(self, key: str) -> Listed | None:
        """What is known of an object; None if it is not there."""
        try:
            answer = self._ask("head_object", key, Key=key)
        except MissingObject:
            return None
        return Listed(key, _told(answer, key, "ContentLength"), _told(answer, key, "ETag"), _unix(answer))

    def confirms(self, expected: Listed) -> bool:
        """Whether the object is there with this content; asked again for a while, since some servers are not at once
        of one mind."""
        for attempt in range(self.settings.retries + 1):
            found = self.head(expected.key)
            if found and expected.is_in({found.key: found}):
                return True
            if attempt < self.settings.retries:
                time.sleep(_pause(attempt, {}))
        return False

    def get(self, key: str, span: tuple[int, int] | None = None) -> Iterator[bytes]:
        """The bytes of an object, or `span`, (offset, length), of them. Goes on after a broken connection.

        Raises MissingObject.
        """
        first, end = (span[0], span[0] + span[1]) if span else (0, None)
        if end == first:
            return
        reading = _Reading(key, first, end)
        for attempt in range(self.settings.retries + 1):
            answer = self._ask("get_object", key, Key=key, **reading.request())
            try:
                yield from reading.pieces(answer, self.settings.timeout)
                return
            except (HTTPError, OSError, EOFError) as error:
                if attempt == self.settings.retries:
                    raise Unreachable(f"{self.name}/{key}: {_words(error)}", Trouble.SILENT) from error

    def put(self, key: str, body: bytes | IO[bytes], md5: bytes, labels: Labels) -> str:
        """Write an object whose bytes have this MD5, which the server verifies; returns its tag."""
        answer = self._ask("put_object", key, Key=key, Body=body, ContentMD5=_base64(md5), **self._labelled(labels))
        return _word(answer, key, "ETag")

    def start_parts(self, key: str, labels: Labels) -> str:
        """Begin an object that comes in parts; returns the name of the attempt."""
        answer = self._ask("create_multipart_upload", key, Key=key, **self._labelled(labels))
        return _word(answer, key, "UploadId")

    def put_part(self, key: str, attempt: str, number: int, data: bytes) -> str:
        """Write one part, `number` counting from 1; returns its tag."""
        md5 = _base64(hashlib.md5(data, usedforsecurity=False).digest())
        answer = self._ask("upload_part", key, Key=key, UploadId=attempt, PartNumber=number, Body=data, ContentMD5=md5)
        return str(_told(answer, key, "ETag"))

    def finish_parts(self, key: str, attempt: str, tags: Sequence[str]) -> str:
        """Make an object of its parts; returns its tag."""
        parts = [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, 1)]
        answer = self._ask(
            "complete_multipart_upload", key, Key=key, UploadId=attempt, MultipartUpload={"Parts": parts}
        )
        return _word(answer, key, "ETag")

    def abort_parts(self, key: str, attempt: str) -> None:
        """Forget the parts, if there are any."""
        try:
            self._ask("abort_multipart_upload", key, Key=key, UploadId=attempt)
        except MissingObject:
            return

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        try:
            self._ask("delete_object", key, Key=key)
        except MissingObject:
            return

    def delete_all(self, keys: Sequence[str]) -> None:
        """Remove up to a thousand objects with one request."""
        wanted = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        answer = self._ask("delete_objects", keys[0], Delete=wanted)
        for error in answer.get("Errors", []):
            if error.get("Code") not in _ABSENT:
                raise StoreFull(f"{self.name}/{error.get('Key')}: not removed: {error.get('Code')}")

    def page(self, prefix: str, after: str = "") -> tuple[list[Listed], bool]:
        """Up to a thousand objects whose keys begin with `prefix` and come after `after`, by the order of their keys;
        and whether there are more."""
        answer = self._ask("list_objects_v2", prefix, Prefix=prefix, StartAfter=after, MaxKeys=PAGE)
        found = [
            Listed(item["Key"], _told(item, prefix, "Size"), _told(item, prefix, "ETag"), _unix(item))
            for item in answer.get("Contents", [])
            if "Key" in item
        ]
        more = bool(answer.get("IsTruncated") and found)
        if more and found[-1].key <= after:
            # Whoever goes on behind its last key would ask for ever.
            raise Unreachable(f"{self.name}/{prefix}: the server gives the same list again and again")
        return found, more

    def _labelled(self, labels: Labels) -> dict[str, str]:
        acl = {"ACL": self.settings.acl} if self.settings.acl else {}
        return {"ContentType": labels.content_type, "CacheControl": labels.cache_control, **acl}

    def _ask(self, operation: str, key: str, **parameters: Any) -> dict[str, Any]:
        """One request, repeated while the trouble may pass."""
        attempt, body = 0, parameters.get("Body")
        while True:
            try:
                if body is not None and hasattr(body, "seek"):
                    body.seek(0)
                answer: dict[str, Any] = getattr(_client(self.settings), operation)(
                    Bucket=self.settings.bucket, **parameters
                )
                return answer
            except ClientError as error:
                if attempt >= self.settings.retries or not _passes(error):
                    raise self._refused(error, key, reads=operation.startswith(("head", "get", "list"))) from None
                time.sleep(_pause(attempt, error.response))
            except (BotoCoreError, ResponseParserError) as error:
                if attempt >= self.settings.retries or not isinstance(error, _WAYS):
                    raise self._silent(error, key, attempt) from None
                time.sleep(_pause(attempt, {}))
            attempt += 1

    def _refused(self, error: ClientError, key: str, *, reads: bool) -> StoreError:
        code, status = _code(error), _status(error)
        said = f"{status} {code if code != str(status) else ''}".strip()
        where = f"{self.name}/{key}"
        if (code in _ABSENT or status == 404) and code != "NoSuchBucket":
            return MissingObject(f"{where}: not there")
        if status >= 500 and status != 507 and code not in _NO_ROOM:
            return Unreachable(f"{where}: the server answers {said}; try again later", Trouble.STATUS)
        remedy = _REMEDIES.get(code, "")
        text = f"{where}: the server refuses: {said}{'; ' if remedy else ''}{remedy}"
        return Unreachable(text, Trouble.STATUS) if reads else StoreFull(text)

    def _silent(self, error: Exception, key: str, attempt: int) -> Unreachable:
        timed_out = isinstance(error, (ReadTimeoutError, ConnectTimeoutError))
        what = f"no answer within {self.settings.timeout} s" if timed_out else _words(error)
        times = f", {attempt + 1} times" if attempt else ""
        return Unreachable(f"{self.name}/{key}: {what}{times}; try again later", Trouble.SILENT)


class _Reading:
    """An object being read: what has come so far, and what must be asked for next."""

    __slots__ = ("_end", "_etag", "_key", "_position")

    def __init__(self, key: str, first: int, end: int | None) -> None:
        self._key = key
        self._position = first
        self._end = end
        self._etag = ""

    def request(self) -> dict[str, str]:
        """What to ask for: the rest of the same content."""
        wanted = {"IfMatch": self._etag} if self._etag else {}
        if self._position or self._end is not None:
            wanted["Range"] = f"bytes={self._position}-{'' if self._end is None else self._end - 1}"
        return wanted

    def pieces(self, answer: Mapping[str, Any], timeout: int) -> Iterator[bytes]:
        """The bytes of one answer. Raises HTTPError, OSError or EOFError if it breaks off or comes too slowly."""
        self._etag = _told(answer, self._key, "ETag")
        left, deadline = int(_told(answer, self._key, "ContentLength")), time.monotonic() + timeout
        if self._end is not None and left != self._end - self._position:
            raise Unreachable(f"{self._key}: the server gives {left} bytes, not the part that was asked for")
        # The wrapper around it waits until a whole piece is there, however slowly that comes.
        raw = answer["Body"]._raw_stream  # noqa: SLF001
        while left:
            data = raw.read1(min(left, _PIECE))
            if not data:
                raise EOFError(f"the answer ends {left} bytes early")
            left -= len(data)
            self._position += len(data)
            deadline += len(data) / _SLOWEST
            yield data
            if time.monotonic() > deadline:
                raise TimeoutError("the answer comes too slowly")
        answer["Body"].close()


_clients: dict[S3Settings, Any] = {}
_making = threading.Lock()


def _forget_clients() -> None:
    """A copy of this process makes its own: connections must not be shared, and nobody holds its locks."""
    global _making  # noqa: PLW0603
    _clients.clear()
    _making = threading.Lock()


os.register_at_fork(after_in_child=_forget_clients)


def _client(settings: S3Settings) -> Any:
    """This process's client; making one takes a tenth of a second."""
    client = _clients.get(settings)
    if client is None:
        with _making:
            client = _clients.get(settings) or _new_client(settings)
            _clients[settings] = client
    return client


def _new_client(settings: S3Settings) -> Any:
    # Only the configuration file says which account it is: nothing of the user's own may slip in.
    nothing = (None, None, os.devnull, None)
    core = botocore.session.Session({"profile": (None,) * 4, "config_file": nothing, "credentials_file": nothing})
    client = boto3.session.Session(botocore_session=core).client(
        "s3",
        endpoint_url=settings.endpoint,
        region_name=settings.region,
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key,
        config=Config(
            signature_version=settings.signature,
            s3={"addressing_style": "virtual" if settings.dns_buckets else "path"},
            proxies={"http": settings.proxy, "https": settings.proxy} if settings.proxy else {},
            connect_timeout=settings.timeout,
            read_timeout=settings.timeout,
            max_pool_connections=settings.connections + 1,
            retries={"total_max_attempts": 1},
            # Servers other than Amazon's do not know the newer checksums; an MD5 comes with everything that is written.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    client.meta.events.register("before-call.s3.DeleteObjects", _add_md5)
    return client


def _add_md5(params: dict[str, Any], **_: Any) -> None:
    """Older servers demand it with this request, newer clients send another sum."""
    params["headers"].setdefault("Content-MD5", _base64(hashlib.md5(params["body"], usedforsecurity=False).digest()))


def _passes(error: ClientError) -> bool:
    status = _status(error)
    return (status >= 500 and status not in {501, 505, 507}) or status == 429 or _code(error) in _PASSING


def _pause(attempt: int, answer: Mapping[str, Any]) -> float:
    """Seconds until the next attempt: longer each time, and not at the same time as everybody else."""
    asked = str(answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("retry-after", ""))
    least = float(asked) if asked.isascii() and asked.isdigit() and len(asked) < 6 else 0.0
    pause = _FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.5)  # noqa: S311  # spreads load, guards nothing
    return float(min(_LONGEST_PAUSE, max(least, pause)))


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))[:64]


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _words(error: BaseException) -> str:
    """One line; what a library says may quote a header, so that only its beginning is taken."""
    return f"{type(error).__name__}: {error}".split("\n", 1)[0][:200]


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _told(answer: Mapping[str, Any], key: str, name: str) -> Any:
    """A field of an answer; a server that leaves it out is none."""
    if name not in answer:
        raise Unreachable(f"{key}: the server's answer lacks {name}; is it an S3 server?")
    return answer[name]


def _word(answer: Mapping[str, Any], key: str, name: str) -> str:
    """One that is written down: a line of its own would be taken for another object."""
    text = str(_told(answer, key, name))
    if not text.isascii() or not text.isprintable() or " " in text or not 0 < len(text) <= _LONGEST_WORD:
        raise Unreachable(f"{key}: the server's answer has a {name} that makes no sense; is it an S3 server?")
    return text


def _unix(answer: Mapping[str, Any]) -> float:
    moment = answer.get("LastModified")
    return moment.timestamp() if isinstance(moment, dt.datetime) else 0
