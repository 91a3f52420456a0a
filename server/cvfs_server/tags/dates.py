"""Dates as users write them for GNU date: "3 days ago", "yesterday", "@1700000000", ISO; opens nothing, knows no clock.

Texts without a zone mean the time zone of the machine, as there.
"""

import datetime as dt
import email.utils
import re
import time

from cvfs.errors import UsageError

_SECONDS = {
    "sec": 1,
    "second": 1,
    "min": 60,
    "minute": 60,
    "hour": 3600,
    "day": 86400,
    "week": 604800,
    "fortnight": 1209600,
}
_MONTHS = {"month": 1, "year": 12}
_NAMED = {"now": 0, "today": 0, "yesterday": -86400, "tomorrow": 86400}
_NUMBERS = {"last": -1, "next": 1, "a": 1, "an": 1}
_SPAN = re.compile(r"([+-]?[0-9]{1,9}|last|next|an?)?\s*([a-z]+)(\s+ago)?")
_EPOCH = re.compile(r"@(-?[0-9]{1,12})")
_STAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_UTC_WORDS = re.compile(r"[A-Z][a-z]{2} +([A-Z][a-z]{2}) +([0-9]{1,2}) ([0-9:]{8}) UTC ([0-9]{4})")


def parse_date(text: str, now: float) -> int:
    """The Unix time that a text means at the Unix time `now`. Raises UsageError for a text that means none."""
    words = " ".join(text.split())
    for read in (_epoch, _iso, _relative, _printed, _mail):
        try:
            found = read(words, now)
        except (ValueError, OverflowError, OSError):
            continue
        if found is not None:
            return found
    raise UsageError(f"{text!r} is no date: write for instance '3 days ago' or '2026-01-31 12:00'")


def print_date(when: float) -> str:
    """As `date --utc` prints it, which is what the status file of a repository holds (FORMAT section 8.4)."""
    return time.strftime("%a %b %e %H:%M:%S UTC %Y", time.gmtime(when))


def _epoch(text: str, _: float) -> int | None:
    found = _EPOCH.fullmatch(text)
    return int(found[1]) if found else None


def _iso(text: str, _: float) -> int | None:
    if not _STAMP.match(text):
        return None
    # "2026-01-31 12:00 UTC" and "…Z" are written by people and by programs.
    plain = re.sub(r"\s*(?:UTC|GMT|Z)$", "+00:00", text)
    return int(dt.datetime.fromisoformat(plain).timestamp())


def _relative(text: str, now: float) -> int | None:
    """One span or several in a row; "ago" belongs to the one before it alone, as in the original."""
    lowered, position, spans = text.lower(), 0, []
    while found := _SPAN.match(lowered, position):
        spans.append(found)
        position = found.end() + (lowered[found.end() :][:1] == " ")
    if position != len(lowered) or not spans:
        return None
    moment = now
    for span in spans:
        moment = _moved(moment, span[1], span[2], past=bool(span[3]))
    return int(moment)


def _moved(moment: float, number: str | None, word: str, *, past: bool) -> float:
    if number is None and word in _NAMED:
        return moment + _NAMED[word]
    unit = word.removesuffix("s") if len(word) > 1 else word
    count = _NUMBERS[number] if number in _NUMBERS else int(number or 1)
    count = -count if past else count
    if unit in _MONTHS:
        return _months_later(moment, count * _MONTHS[unit])
    if unit not in _SECONDS:
        raise ValueError(word)
    return moment + count * _SECONDS[unit]


def _months_later(moment: float, months: int) -> float:
    there = time.localtime(moment)
    return time.mktime((there.tm_year, there.tm_mon + months, *there[2:8], -1))


def _printed(text: str, _: float) -> int | None:
    found = _UTC_WORDS.fullmatch(text)
    if not found:
        return None
    plain = f"{found[2]} {found[1]} {found[4]} {found[3]} +0000"
    return int(email.utils.parsedate_to_datetime(plain).timestamp())


def _mail(text: str, _: float) -> int | None:
    return int(email.utils.parsedate_to_datetime(text).timestamp())
