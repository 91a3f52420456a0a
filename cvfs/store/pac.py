"""Proxies found by a configuration script (CVMFS_HTTP_PROXY=auto, CVMFS_PAC_URLS): fetched and run within a deadline.

The script runs in a process of its own: an endless loop in it costs that process its life, and nobody else anything.
"""

import importlib.util
import json
import logging
import subprocess
from collections.abc import Sequence
from urllib.parse import urlsplit

from cvfs.errors import CvfsError, FormatError, Unreachable, UsageError
from cvfs.interpreter import python
from cvfs.store.base import Store, fetch_document
from cvfs.store.http import HttpStore
from cvfs.store.local import LocalStore
from cvfs.store.patience import Timeouts
from cvfs.store.proxies import DIRECT, parse_groups

_log = logging.getLogger(__name__)

_LONGEST_SCRIPT = 2**20
_KINDS = {"PROXY": "http://", "HTTP": "http://", "HTTPS": "https://"}


def discover(urls: Sequence[str], servers: Sequence[str], timeouts: Timeouts) -> str:
    """The proxies that the first script that can be had gives for the first of `servers`, as in CVMFS_HTTP_PROXY.

    Raises UsageError without a JavaScript engine, Unreachable if no script gives anything.
    """
    if importlib.util.find_spec("pypac") is None:
        raise UsageError("proxy auto-configuration needs a JavaScript engine: pip install 'cvfs[pac]'")
    failures = []
    for url in urls:
        try:
            return _proxies(_run(_script(url, timeouts), servers, timeouts.direct))
        except CvfsError as error:
            failures.append(str(error) if url in str(error) else f"{url}: {error}")
            _log.warning("proxy auto-configuration: %s", failures[-1])
    raise Unreachable(f"no proxy configuration script gives a proxy: {'; '.join(failures)}")


def parse_answer(answer: str) -> str:
    """`PROXY a:3128; PROXY b:3128; DIRECT` as in CVMFS_HTTP_PROXY: each comes when those before it have failed.

    Kinds of proxies that are none for HTTP are left out. Raises FormatError if nothing is left.
    """
    found = []
    for part in answer.split(";"):
        kind, _, place = part.strip().partition(" ")
        if kind.upper() == DIRECT:
            found.append(DIRECT)
        elif kind.upper() in _KINDS and place.strip():
            found.append(_KINDS[kind.upper()] + place.strip())
    text = ";".join(found)
    try:
        parse_groups(text)
    except UsageError as error:
        raise FormatError(f"the script answers {answer[:200]!r}: {error}") from error
    if not found:
        raise FormatError(f"the script answers {answer[:200]!r}: no proxy for HTTP")
    return text


def _script(url: str, timeouts: Timeouts) -> bytes:
    parts = urlsplit(url)
    base = f"{parts.scheme}://{parts.netloc}"
    store: Store = LocalStore("/") if parts.scheme == "file" else HttpStore(base, None, timeouts)
    query = f"?{parts.query}" if parts.query else ""
    return fetch_document(store, parts.path.lstrip("/") + query, _LONGEST_SCRIPT)


def _run(script: bytes, servers: Sequence[str], seconds: float) -> list[str]:
    """What the script says for each server."""
    question = json.dumps({"script": script.decode("utf-8", "replace"), "urls": list(servers)})
    try:
        ran = subprocess.run(
            python("cvfs.store.pac_script"), input=question.encode(), capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unreachable(f"the script is not done after {seconds:g} s") from None
    if ran.returncode != 0:
        raise FormatError(f"the script fails: {ran.stderr.decode('utf-8', 'replace').strip()[-300:] or 'killed'}")
    try:
        return [str(answer) for answer in json.loads(ran.stdout)]
    except (ValueError, TypeError, RecursionError) as error:
        raise FormatError(f"the script answers {ran.stdout[:200]!r}") from error


def _proxies(answers: Sequence[str]) -> str:
    """The proxies for the first server that has any."""
    failure = FormatError("no server is known")
    for answer in answers:
        try:
            return parse_answer(answer)
        except FormatError as error:
            failure = error
    raise failure
