"""Dates as GNU date reads them: the words that administrators use, and what is refused."""

import time

import pytest

from cvfs.errors import UsageError
from cvfs_server.tags.dates import parse_date, print_date

NOW = 1_700_000_000
DAY = 86400


@pytest.fixture(autouse=True)
def _utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("now", 0),
        ("today", 0),
        ("yesterday", -DAY),
        ("3 days ago", -3 * DAY),
        ("  3   DAYS ago ", -3 * DAY),
        ("1 day ago", -DAY),
        ("a day ago", -DAY),
        ("day ago", -DAY),
        ("2 weeks ago", -14 * DAY),
        ("fortnight ago", -14 * DAY),
        ("4 hours ago", -4 * 3600),
        ("90 min ago", -5400),
        ("30 sec ago", -30),
        ("last week", -7 * DAY),
        ("-2 days", -2 * DAY),
        ("1 week ago 2 days ago", -9 * DAY),
        ("1 week 2 days ago", 5 * DAY),
        ("+1 hour", 3600),
    ],
)
def test_spans(text, seconds):
    assert parse_date(text, NOW) == NOW + seconds


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("@1234567890", 1234567890),
        ("2009-02-13T23:31:30Z", 1234567890),
        ("2009-02-13 23:31:30", 1234567890),
        ("2009-02-13 23:31:30 UTC", 1234567890),
        ("2009-02-14T00:31:30+01:00", 1234567890),
        ("2009-02-13", 1234567890 - 23 * 3600 - 31 * 60 - 30),
        ("Fri Feb 13 23:31:30 UTC 2009", 1234567890),
        ("Fri, 13 Feb 2009 23:31:30 +0000", 1234567890),
    ],
)
def test_moments(text, moment):
    assert parse_date(text, NOW) == moment


@pytest.mark.parametrize(("text", "printed"), [("1 month ago", "2023-10-14"), ("2 years ago", "2021-11-14")])
def test_months_and_years_by_the_calendar(text, printed):
    assert time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(parse_date(text, NOW))) == f"{printed} 22:13:20"


def test_the_time_zone_is_the_machine_s(monkeypatch):
    monkeypatch.setenv("TZ", "XXX-2")
    time.tzset()
    assert parse_date("2009-02-14 01:31:30", NOW) == 1234567890


def test_what_is_printed_is_read():
    assert print_date(1234567890) == "Fri Feb 13 23:31:30 UTC 2009"
    assert print_date(NOW - 10 * DAY) == "Sat Nov  4 22:13:20 UTC 2023"
    assert parse_date(print_date(NOW - 10 * DAY), NOW) == NOW - 10 * DAY


@pytest.mark.parametrize(
    "text", ["", "soon", "3 parsecs ago", "2009-13-45", "3 days ago and more", "@x", "@", "99999999999 days ago"]
)
def test_refused(text):
    with pytest.raises(UsageError, match="is no date"):
        parse_date(text, NOW)
