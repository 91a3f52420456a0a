"""Parameters of a mount as a process: its sockets, logs and observation, and what it asks of the system."""

import os
from dataclasses import dataclass, field, replace

from cvfs.client.settings.parameters import Parameters
from cvfs.errors import UsageError

FUSE_BINDINGS = ("native", "fusepy")
"""The ways to the kernel, the default first; `cvfs.fuse.binding` has them."""

_CPUS = 4096


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Where messages go. `level` 1 to 3: how urgent those are that report no trouble; `facility` 0 to 7: local0 to local7.

    `micro_syslog` is a file instead of syslog, `debug` a file that gets everything, `file` one that gets what syslog gets.
    """

    level: int = 3
    facility: int = 5
    prefix: str | None = None
    file: str | None = None
    micro_syslog: str | None = None
    debug: str | None = None

    @classmethod
    def of(cls, get: Parameters) -> "LogSettings":
        """Raises UsageError naming the parameter at fault."""
        return cls(
            level=_between(get, "CVMFS_SYSLOG_LEVEL", 3, 1, 3),
            facility=_between(get, "CVMFS_SYSLOG_FACILITY", 5, 0, 7),
            prefix=get.optional("CVMFS_SYSLOG_PREFIX"),
            file=get.optional("CVFS_LOG"),
            micro_syslog=get.optional("CVMFS_USYSLOG"),
            debug=get.optional("CVMFS_DEBUGLOG"),
        )

    def with_absolute_places(self) -> "LogSettings":
        """The same for a process that works elsewhere."""
        return replace(
            self, file=_absolute(self.file), micro_syslog=_absolute(self.micro_syslog), debug=_absolute(self.debug)
        )


@dataclass(frozen=True, slots=True)
class ObservationSettings:
    """What is recorded: each access in `trace_file` (None: nowhere), durations, numbers for a collector of metrics."""

    trace_file: str | None = None
    trace_buffer: int = 8192
    trace_threshold: int = 7000
    latencies: bool = False
    metrics_file: str | None = None

    @classmethod
    def of(cls, get: Parameters) -> "ObservationSettings":
        """Raises UsageError naming the parameter at fault."""
        buffer = _between(get, "CVMFS_TRACEBUFFER", 8192, 2, 2**20)
        return cls(
            trace_file=get.optional("CVMFS_TRACEFILE"),
            trace_buffer=buffer,
            trace_threshold=_between(get, "CVMFS_TRACEBUFFER_THRESHOLD", min(7000, buffer - 1), 0, buffer - 1),
            latencies=get.flag("CVMFS_INSTRUMENT_FUSE", default=False),
            metrics_file=get.optional("CVFS_METRICS_FILE"),
        )

    def with_absolute_places(self) -> "ObservationSettings":
        """The same for a process that works elsewhere."""
        return replace(self, trace_file=_absolute(self.trace_file), metrics_file=_absolute(self.metrics_file))


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """What the process of a mount asks of the system. `user` and `group` are numbers: whom it becomes once it has mounted."""

    user: int | None = None
    group: int | None = None
    oom_score: int | None = None
    processors: frozenset[int] = frozenset()
    open_files: int = 131072
    survives_shutdown: bool = False

    @classmethod
    def of(cls, get: Parameters) -> "ProcessSettings":
        """Raises UsageError naming the parameter at fault."""
        oom_score = get.optional("CVMFS_OOM_SCORE_ADJ")
        return cls(
            user=_number_or_none(get, "CVFS_UID"),
            group=_number_or_none(get, "CVFS_GID"),
            oom_score=_between(get, "CVMFS_OOM_SCORE_ADJ", 0, -1000, 1000) if oom_score else None,
            processors=_processors(get, "CVMFS_CPU_AFFINITY"),
            open_files=get.number("CVMFS_NFILES", 131072, least=128),
            survives_shutdown=get.flag("CVMFS_SYSTEMD_NOKILL", default=False),
        )


@dataclass(frozen=True, slots=True)
class MountSettings:
    """Where a mount keeps its socket (`workspace`; a mount needs one), who may use it, and what it leaves behind.

    `talk_socket` is another place for the socket, `talk_owner` the name or number of the user who may use it;
    `fuse_binding` the way to the kernel, one of `FUSE_BINDINGS`.
    """

    workspace: str | None = None
    talk_socket: str | None = None
    talk_owner: str | None = None
    watchdog: bool = True
    fuse_binding: str = FUSE_BINDINGS[0]
    logs: LogSettings = field(default_factory=LogSettings)
    observation: ObservationSettings = field(default_factory=ObservationSettings)
    process: ProcessSettings = field(default_factory=ProcessSettings)

    @classmethod
    def of(cls, get: Parameters, cache_dir: str | None) -> "MountSettings":
        """Raises UsageError naming the parameter at fault."""
        return cls(
            workspace=get.optional("CVMFS_WORKSPACE") or cache_dir,
            talk_socket=get.optional("CVMFS_TALK_SOCKET"),
            talk_owner=get.optional("CVMFS_TALK_OWNER"),
            watchdog=get.flag("CVFS_WATCHDOG", default=True),
            fuse_binding=_fuse_binding(get),
            logs=LogSettings.of(get),
            observation=ObservationSettings.of(get),
            process=ProcessSettings.of(get),
        )

    def with_absolute_places(self) -> "MountSettings":
        """The same for a process that works elsewhere."""
        return replace(
            self,
            workspace=_absolute(self.workspace),
            talk_socket=_absolute(self.talk_socket),
            logs=self.logs.with_absolute_places(),
            observation=self.observation.with_absolute_places(),
        )


def _absolute(path: str | None) -> str | None:
    return os.path.abspath(path) if path else None


def _fuse_binding(get: Parameters) -> str:
    name = "CVFS_FUSE_BINDING"
    chosen = (get.optional(name) or FUSE_BINDINGS[0]).lower()
    if chosen not in FUSE_BINDINGS:
        raise UsageError(f"{name}={chosen}: one of {', '.join(FUSE_BINDINGS)} is needed")
    return chosen


def _between(get: Parameters, name: str, default: int, least: int, most: int) -> int:
    value = get.number(name, default, least=least)
    if value > most:
        raise UsageError(f"{name}={value}: a number from {least} to {most} is needed")
    return value


def _number_or_none(get: Parameters, name: str) -> int | None:
    return get.number(name, 0) if get.optional(name) else None


def _processors(get: Parameters, name: str) -> frozenset[int]:
    """`0,2-5`: numbers and ranges of them."""
    found: set[int] = set()
    for word in get.words(name, ","):
        first, dash, last = word.partition("-")
        if not (first.isdecimal() and (last.isdecimal() or not dash) and int(last or first) < _CPUS):
            raise UsageError(f"{name}={word}: numbers of processors are needed, like 0,2-5")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)
