"""Parameters of a mount as a process: values, units, defaults, and what is refused."""

import operator
import os

import pytest

from cvfs.client.settings import settings_from
from cvfs.errors import UsageError

FQRN = "sw.example.org"


@pytest.mark.parametrize(
    ("parameter", "value", "field", "expected"),
    [
        ("CVMFS_WORKSPACE", "/run/w", "workspace", "/run/w"),
        ("CVMFS_WORKSPACE", "", "workspace", "/var/lib/cvmfs/shared"),
        ("CVMFS_TALK_SOCKET", "/run/@fqrn@.socket", "talk_socket", f"/run/{FQRN}.socket"),
        ("CVMFS_TALK_SOCKET", "", "talk_socket", None),
        ("CVMFS_TALK_OWNER", "operator", "talk_owner", "operator"),
        ("CVFS_WATCHDOG", "", "watchdog", True),
        ("CVFS_WATCHDOG", "no", "watchdog", False),
        ("CVFS_FUSE_BINDING", "", "fuse_binding", "native"),
        ("CVFS_FUSE_BINDING", "FUSEPY", "fuse_binding", "fusepy"),
        ("CVMFS_SYSLOG_LEVEL", "", "logs.level", 3),
        ("CVMFS_SYSLOG_LEVEL", "1", "logs.level", 1),
        ("CVMFS_SYSLOG_FACILITY", "", "logs.facility", 5),
        ("CVMFS_SYSLOG_FACILITY", "0", "logs.facility", 0),
        ("CVMFS_SYSLOG_PREFIX", "node7", "logs.prefix", "node7"),
        ("CVMFS_USYSLOG", "/var/log/cvmfs/@fqrn@.log", "logs.micro_syslog", f"/var/log/cvmfs/{FQRN}.log"),
        ("CVMFS_DEBUGLOG", "/tmp/d", "logs.debug", "/tmp/d"),
        ("CVFS_LOG", "/tmp/l", "logs.file", "/tmp/l"),
        ("CVMFS_TRACEFILE", "/tmp/trace-@fqrn@", "observation.trace_file", f"/tmp/trace-{FQRN}"),
        ("CVMFS_TRACEFILE", "", "observation.trace_file", None),
        ("CVMFS_TRACEBUFFER", "", "observation.trace_buffer", 8192),
        ("CVMFS_TRACEBUFFER", "100", "observation.trace_threshold", 99),
        ("CVMFS_TRACEBUFFER_THRESHOLD", "", "observation.trace_threshold", 7000),
        ("CVMFS_TRACEBUFFER_THRESHOLD", "0", "observation.trace_threshold", 0),
        ("CVMFS_INSTRUMENT_FUSE", "", "observation.latencies", False),
        ("CVMFS_INSTRUMENT_FUSE", "true", "observation.latencies", True),
        ("CVFS_METRICS_FILE", "/m/cvfs.prom", "observation.metrics_file", "/m/cvfs.prom"),
        ("CVMFS_NFILES", "", "process.open_files", 131072),
        ("CVMFS_NFILES", "1024", "process.open_files", 1024),
        ("CVMFS_OOM_SCORE_ADJ", "", "process.oom_score", None),
        ("CVMFS_OOM_SCORE_ADJ", "-900", "process.oom_score", -900),
        ("CVMFS_CPU_AFFINITY", "", "process.processors", frozenset()),
        ("CVMFS_CPU_AFFINITY", "0, 2-4", "process.processors", frozenset({0, 2, 3, 4})),
        ("CVMFS_SYSTEMD_NOKILL", "", "process.survives_shutdown", False),
        ("CVMFS_SYSTEMD_NOKILL", "yes", "process.survives_shutdown", True),
        ("CVFS_UID", "", "process.user", None),
        ("CVFS_UID", "0", "process.user", 0),
        ("CVFS_GID", "12", "process.group", 12),
    ],
)
def test_values(parameter, value, field, expected):
    assert operator.attrgetter(field)(settings_from(FQRN, {parameter: value}).mount) == expected


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("CVMFS_SYSLOG_LEVEL", "0"),
        ("CVMFS_SYSLOG_LEVEL", "4"),
        ("CVMFS_SYSLOG_FACILITY", "8"),
        ("CVMFS_SYSLOG_FACILITY", "local5"),
        ("CVMFS_TRACEBUFFER", "1"),
        ("CVMFS_TRACEBUFFER_THRESHOLD", "8192"),
        ("CVMFS_NFILES", "100"),
        ("CVMFS_OOM_SCORE_ADJ", "1001"),
        ("CVMFS_CPU_AFFINITY", "a"),
        ("CVMFS_CPU_AFFINITY", "1-"),
        ("CVMFS_CPU_AFFINITY", "0-99999999"),
        ("CVFS_UID", "root"),
        ("CVFS_WATCHDOG", "maybe"),
        ("CVFS_FUSE_BINDING", "fuse3"),
    ],
)
def test_what_makes_no_sense_is_named(parameter, value):
    with pytest.raises(UsageError, match=f"{parameter}="):
        settings_from(FQRN, {parameter: value})


@pytest.mark.parametrize(
    ("parameter", "field"),
    [
        ("CVMFS_WORKSPACE", "workspace"),
        ("CVMFS_TALK_SOCKET", "talk_socket"),
        ("CVMFS_USYSLOG", "logs.micro_syslog"),
        ("CVMFS_DEBUGLOG", "logs.debug"),
        ("CVFS_LOG", "logs.file"),
        ("CVMFS_TRACEFILE", "observation.trace_file"),
        ("CVFS_METRICS_FILE", "observation.metrics_file"),
    ],
)
def test_places_are_made_absolute(parameter, field):
    settings = settings_from(FQRN, {parameter: "here"}).with_absolute_places()
    assert operator.attrgetter(field)(settings.mount) == os.path.abspath("here")
