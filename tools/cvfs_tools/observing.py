"""cvfs probe, status, stat: what runs on this machine and how it is, in the original's words and columns; never waits long."""

import json
import os
import time
from typing import Any

import click

from cvfs.client.configuration_sources import Sources
from cvfs.client.observe.state import hit_rate
from cvfs.errors import CvfsError, MountError, UsageError
from cvfs.kernel import mount_table
from cvfs_tools.mounts import Running, pid_of, place_of, running_mounts, state_of, within_deadline
from cvfs_tools.repository_options import etc_of_group
from cvfs_tools.running import write_line

COLUMNS = (
    "VERSION PID UPTIME(M) MEM(K) REVISION EXPIRES(M) NOCATALOGS CACHEUSE(K) CACHEMAX(K) NOFDUSE NOFDMAX NOIOERR NOOPEN "
    "HITRATE(%) RX(K) SPEED(K/S) HOST PROXY ONLINE"
)
_KIB = 1024


@click.command()
@click.argument("repositories", nargs=-1)
def probe(repositories: tuple[str, ...]) -> None:
    """Look into repositories, by default into all of CVMFS_REPOSITORIES, or all that are mounted."""
    failed = False
    for name in repositories or configured_repositories() or [mount.fqrn for mount in running_mounts()]:
        place = place_of(name)
        click.echo(f"Probing {place}... ", nl=False)
        healthy = _answers(place)
        click.echo("OK" if healthy else "Failed!")
        failed |= not healthy
    raise SystemExit(1 if failed else 0)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As one JSON list")
def status(*, as_json: bool) -> None:
    """List the mounted repositories with their mount points and processes."""
    found = [(mount, pid_of(mount.mountpoint)) for mount in running_mounts()]
    if as_json:
        write_line(json.dumps([{**mount._asdict(), "pid": pid} for mount, pid in found]))
    for mount, pid in () if as_json else found:
        inaccessible = f"mountpoint {mount.mountpoint} inaccessible"
        write_line(inaccessible if pid is None else f"{mount.fqrn} mounted on {mount.mountpoint} with pid {pid}")
    raise SystemExit(1 if any(pid is None for _, pid in found) else 0)


@click.command()
@click.argument("mounted", required=False)
@click.option("-v", "verbose", is_flag=True, help="In sentences, with all numbers")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object")
@click.option("-c", "--cache", metavar="DIR", help="Where the control socket lies, if the mount does not answer")
def stat(mounted: str | None, *, verbose: bool, as_json: bool, cache: str | None) -> None:
    """Show the state of a mount, given by mount point or fqrn, or of all: one line of columns for each."""
    if mounted:
        _show(state_of(mounted, cache), verbose=verbose, as_json=as_json)
        return
    failed = False
    for mount in running_mounts():
        if not as_json:
            write_line(f"\nRunning cvfs stat {mount.fqrn}:")
        failed |= not _show_one(mount, verbose=verbose, as_json=as_json)
    raise SystemExit(1 if failed else 0)


def configured_repositories() -> tuple[str, ...]:
    """CVMFS_REPOSITORIES of this machine; none if nothing is configured."""
    try:
        return tuple(Sources(etc=etc_of_group()).common().repositories())
    except CvfsError:
        return ()


def _answers(place: str) -> bool:
    """Whether a repository is mounted there and lets itself be looked into in time. Looking may mount it, with autofs."""
    try:
        within_deadline(place, lambda: (os.listdir(place), os.statvfs(place)))
    except (MountError, OSError):
        return False
    entry = mount_table.find_mount(place)
    return entry is not None and entry.type.startswith("fuse")


def _show_one(mount: Running, *, verbose: bool, as_json: bool) -> bool:
    try:
        _show(state_of(mount.mountpoint), verbose=verbose, as_json=as_json)
    except (CvfsError, OSError) as error:
        reason = str(error) if isinstance(error, CvfsError) else f"{mount.mountpoint}: {error.strerror}"
        write_line(json.dumps({**mount._asdict(), "error": reason}) if as_json else f"{mount.fqrn}: {reason}")
        return False
    return True


def _show(state: dict[str, Any], *, verbose: bool, as_json: bool) -> None:
    for line in [json.dumps(state)] if as_json else _lines(state, verbose=verbose):
        write_line(line)


def _lines(state: dict[str, Any], *, verbose: bool) -> list[str]:
    """Raises UsageError for the mount of another version: it goes on for months after the commands were replaced."""
    try:
        if verbose:
            return [*sentences(state), *numbers(state)]
        return [COLUMNS, " ".join(str(value) for value in columns(state))]
    except KeyError as error:
        where, version = state.get("mountpoint", "a mount"), state.get("version", "unknown")
        hint = "see cvfs stat --json, or mount it anew"
        raise UsageError(
            f"{where}: mounted by another cvfs (version {version}), which tells no {error}: {hint}"
        ) from error


def columns(state: dict[str, Any]) -> tuple[object, ...]:
    """The values under `COLUMNS`; none of them holds a blank."""
    return (
        state["version"],
        state["pid"],
        state["uptime"] // 60,
        state["memory"] // _KIB,
        state["revision"],
        "never" if state["expires"] is None else state["expires"] // 60,
        state["catalogs_open"],
        state["cache_used"] // _KIB,
        state["cache_limit"] // _KIB,
        state["descriptors"],
        state["descriptor_limit"],
        state["io_errors"],
        state["objects_opened"],
        _rate(state),
        state["received"] // _KIB,
        state["speed"] if state.get("speed") is not None else "n/a",
        state["server"],
        state["proxy"],
        0 if state["offline_since"] else 1,
    )


def _rate(state: dict[str, Any]) -> str:
    rate = hit_rate(state["objects_opened"], state["objects_missed"])
    return "n/a" if rate is None else f"{rate:.3f}"


def sentences(state: dict[str, Any]) -> list[str]:
    """The lines of `cvmfs_config stat -v`, and what a site wants to know besides: trouble, offline, the whitelist."""
    (
        version,
        pid,
        uptime,
        memory,
        revision,
        expires,
        catalogs,
        used,
        limit,
        descriptors,
        most,
        errors,
        opened,
        rate,
    ) = columns(state)[:14]
    received, speed, server, proxy, _ = columns(state)[14:]
    lines = [
        f"Version: {version}",
        f"PID: {pid}",
        f"Uptime: {uptime} minutes",
        f"Memory Usage: {memory}k",
        f"File Catalog Revision: {revision} (expires in {expires} minutes)",
        f"File Catalog ID: {state['root_hash']}",
        f"No. Active File Catalogs: {catalogs}",
        f"Cache Usage: {used}k / {limit}k",
        f"File Descriptor Usage: {descriptors} / {most}",
        f"No. IO Errors: {errors}",
        f"Connection: {server} through proxy {proxy} ({_connection(state)})",
        f"Usage: {opened} open() calls (hitrate {rate}%)",
        f"Transfer Statistics: {received}k read, avg. speed: {speed}k/s",
    ]
    if state["whitelist_days"] is not None:
        lines.append(f"Whitelist: expires in {state['whitelist_days']} days")
    return [*lines, f"Trouble: {state['trouble']}"] if state["trouble"] else lines


def _connection(state: dict[str, Any]) -> str:
    since = state["offline_since"]
    if not since:
        return "online"
    return f"offline since {time.strftime('%Y-%m-%d %H:%M:%S %z', time.localtime(since))}"


def numbers(state: dict[str, Any]) -> list[str]:
    """Everything by name, and the requests of the kernel."""
    rest = {name: value for name, value in state.items() if name != "requests"}
    lines = [f"{name:<16} {'never' if value is None else value}" for name, value in rest.items()]
    requests = sorted(state["requests"].items(), key=lambda pair: -int(pair[1]))
    return [*lines, "requests of the kernel by operation:", *(f"  {name:<14} {count}" for name, count in requests)]
