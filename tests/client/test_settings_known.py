"""The table of known parameters tells the truth: what it calls obeyed is read by that part, and what a part reads is in it."""

import re
from pathlib import Path

import pytest

import cvfs.client.configuration_sources
import cvfs.client.settings
from cvfs.client.settings.known import KNOWN, Effect, known_parameter

PARTS = Path(cvfs.client.settings.__file__).parent
READ = re.compile(r'"((?:CVMFS|CVFS|X509)_[A-Z0-9_]+)"')


def source_of(part: str) -> str:
    if part == "configuration_sources":
        return Path(cvfs.client.configuration_sources.__file__).read_text()
    return (PARTS / f"{part}.py").read_text()


@pytest.mark.parametrize("parameter", [p for p in KNOWN.values() if p.effect is Effect.OBEYED], ids=lambda p: p.name)
def test_what_is_called_obeyed_is_read_by_that_part(parameter):
    assert f'"{parameter.name}"' in source_of(parameter.note)


@pytest.mark.parametrize("part", ["network", "cache", "trust", "view", "mount", "client"])
def test_what_a_part_reads_is_in_the_table(part):
    read = set(READ.findall(source_of(part)))
    assert read
    assert {name for name in read if name not in KNOWN or KNOWN[name].effect is not Effect.OBEYED} == set()


@pytest.mark.parametrize("name", [p.name for p in KNOWN.values() if p.effect is Effect.UNSUPPORTED])
def test_what_is_called_unsupported_nobody_reads(name):
    for part in ("network", "cache", "trust", "view", "mount", "client"):
        assert f'"{name}"' not in source_of(part)


def test_nothing_is_in_the_table_twice_and_nothing_without_a_reason():
    text = source_of("known")
    names = re.findall(r"\b(?:CVMFS|CVFS)_[A-Z0-9_]+\b(?=[\s\"])", text)
    counted = {name for name in KNOWN if names.count(name) > 1}
    assert {name for name in counted if not any(name in p.note for p in KNOWN.values())} == set()
    assert all(parameter.note for parameter in KNOWN.values())


@pytest.mark.parametrize(
    ("name", "effect"),
    [
        ("CVMFS_TIMEOUT", Effect.OBEYED),
        ("CVMFS_IGNORE_SIGNATURE", Effect.UNSUPPORTED),
        ("CVMFS_MEMCACHE_SIZE", Effect.WITHOUT_EFFECT),
        ("CVMFS_CACHE_hot_TYPE", Effect.OBEYED),
        ("CVMFS_CACHE_hot_LOWER_READONLY", Effect.OBEYED),
        ("CVMFS_CACHE_a_b_QUOTA_LIMIT", Effect.OBEYED),
        ("CVMFS_CACHE_hot_LOCATOR", Effect.UNSUPPORTED),
        ("CVMFS_CACHE_hot_MALLOC", Effect.WITHOUT_EFFECT),
    ],
)
def test_what_becomes_of_a_parameter(name, effect):
    parameter = known_parameter(name)
    assert (parameter.name, parameter.effect) == (name, effect)


@pytest.mark.parametrize("name", ["CVMFS_TIMEOUTS", "CVMFS_CACHE_hot_COLD", "CMS_LOCAL_SITE", ""])
def test_what_is_no_parameter(name):
    assert known_parameter(name) is None
