"""A report as a JSON document, both ways; decides nothing about what is in it.

`{"format": 1, "command", "started", "seconds", "setting": {name: text}, "results": [{"workload", "state", "rtt", "bandwidth",
"samples": {contestant: [{"seconds", "cpu_seconds", "client", "figures"}]}, "troubles": {contestant: why}}]}`, times in seconds,
memory in bytes, `client` is null where there is none. Fields that are not known are passed over, so that what later versions
add does not make their results unreadable; a change of meaning gets a new format number.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.model import ClientCosts, Key, Link, Report, Result, Sample, State
from cvfs.durable import replace_file
from cvfs.errors import UsageError

_Kind = TypeVar("_Kind")

FORMAT = 1
_LARGEST_NUMBER = 1e18
LARGEST = 64 * 1024 * 1024
"""Bytes of a document; a full run has about one megabyte."""


def written(report: Report) -> str:
    """The document of a report."""
    document = {
        "format": FORMAT,
        "command": report.command,
        "started": report.started,
        "seconds": report.seconds,
        "setting": dict(report.setting),
        "results": [_result_document(result) for result in report.results],
    }
    return json.dumps(document, indent=1) + "\n"


def save(report: Report, path: Path) -> None:
    """Replaces what is there as a whole: a run that is cut off leaves the document of the contest before."""
    replace_file(os.fspath(path), written(report).encode())


def load(path: Path) -> Report:
    """Raises UsageError, which names the file."""
    try:
        with path.open("rb") as stream:
            content = stream.read(LARGEST + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > LARGEST:
        raise UsageError(f"{path} has more than {LARGEST >> 20} MiB: no results of `python -m benchmarks run`")
    try:
        return read(content)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def read(content: bytes | str) -> Report:
    """The report of a document. Raises UsageError, which says where it is wrong."""
    try:
        document = json.loads(content)
    # Also what is nested too deeply, and what is no UTF-8.
    except (ValueError, RecursionError) as error:
        raise UsageError(f"no JSON: {error}") from error
    top = _Fields(document, "the document")
    number = top.number("format")
    if number != FORMAT:
        raise UsageError(f"results of format {number:g}, this program reads {FORMAT}: take the version that wrote them")
    return Report(
        command=top.text("command"),
        started=top.number("started"),
        seconds=top.number("seconds"),
        setting={name: top.inner("setting").text(name) for name in top.inner("setting").names()},
        results=tuple(_result(_Fields(each, f"result {at}")) for at, each in enumerate(top.rows("results"), 1)),
    )


def _result_document(result: Result) -> dict[str, Any]:
    return {
        "workload": result.key.workload,
        "state": result.key.state.value,
        "rtt": result.key.link.rtt,
        "bandwidth": result.key.link.bandwidth,
        "samples": {name: [_sample_document(sample) for sample in samples] for name, samples in result.samples.items()},
        "troubles": dict(result.troubles),
    }


def _sample_document(sample: Sample) -> dict[str, Any]:
    client = asdict(sample.client) if sample.client else None
    return {
        "seconds": sample.seconds,
        "cpu_seconds": sample.cpu_seconds,
        "client": client,
        "figures": dict(sample.figures),
    }


def _result(fields: "_Fields") -> Result:
    samples, troubles = fields.inner("samples"), fields.inner("troubles")
    return Result(
        key=Key(fields.text("workload"), _state(fields), Link(fields.number("rtt"), fields.number("bandwidth"))),
        samples={name: tuple(_samples(samples, name)) for name in samples.names()},
        troubles={name: troubles.text(name) for name in troubles.names()},
    )


def _state(fields: "_Fields") -> State:
    try:
        return State(fields.text("state"))
    except ValueError as error:
        raise UsageError(f"{fields.where}: {error}") from error


def _samples(fields: "_Fields", name: str) -> list[Sample]:
    rows = fields.rows(name)
    return [_sample(_Fields(row, f"{fields.where}, {name}, repetition {at}")) for at, row in enumerate(rows, 1)]


def _sample(fields: "_Fields") -> Sample:
    client = fields.inner("client") if fields.has("client") else None
    return Sample(
        seconds=fields.number("seconds"),
        cpu_seconds=fields.number("cpu_seconds"),
        client=_client(client) if client else None,
        figures=fields.inner("figures").numbers(),
    )


def _client(fields: "_Fields") -> ClientCosts:
    return ClientCosts(
        cpu_seconds=fields.number("cpu_seconds"),
        resident=fields.count("resident"),
        peak=fields.count("peak"),
        switches=fields.count("switches"),
        requests=fields.count("requests"),
        wire_bytes=fields.count("wire_bytes"),
        fuse={name: int(number) for name, number in fields.inner("fuse").numbers().items()},
    )


class _Fields:
    """An object of the document; whatever is not of the kind that is asked for is refused by its place and name."""

    def __init__(self, value: object, where: str) -> None:
        self.where = where
        self._values: Mapping[str, object] = _of_kind(value, dict, "an object", where)

    def names(self) -> list[str]:
        return [_of_characters(name, self.where) for name in self._values]

    def has(self, name: str) -> bool:
        return self._values.get(name) is not None

    def text(self, name: str) -> str:
        return _of_characters(_of_kind(self._values.get(name), str, "text", self._place(name)), self._place(name))

    def number(self, name: str) -> float:
        """A time or the like, which is never less than nothing."""
        value = self.difference(name)
        if value < 0:
            raise UsageError(f"{self._place(name)} is less than nothing")
        return value

    def difference(self, name: str) -> float:
        value = self._values.get(name)
        # JSON's true is an int of Python's; NaN, infinity and whole numbers without end are what its reader takes.
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not -_LARGEST_NUMBER < value < _LARGEST_NUMBER
        ):
            raise UsageError(f"{self._place(name)} is no number")
        return float(value)

    def count(self, name: str) -> int:
        return int(self.difference(name))

    def numbers(self) -> dict[str, float]:
        return {name: self.difference(name) for name in self._values}

    def rows(self, name: str) -> list[object]:
        return _of_kind(self._values.get(name), list, "a list", self._place(name))

    def inner(self, name: str) -> "_Fields":
        return _Fields(self._values.get(name), self._place(name))

    def _place(self, name: str) -> str:
        return f"{self.where}, {name if name.isprintable() else ascii(name)}"


def _of_kind(value: object, kind: type[_Kind], words: str, place: str) -> _Kind:
    if not isinstance(value, kind):
        raise UsageError(f"{place} is not {words}")
    return value


def _of_characters(text: str, place: str) -> str:
    """JSON can hold halves of characters, which nobody can write."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{place} is not text: {error.reason}") from error
    return text
