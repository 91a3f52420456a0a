"""cvfs showconfig, chksetup: what the configuration comes to, and whether a mount can work with it; they change nothing."""

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import click

from cvfs.client.configuration_sources import PREFIXES, Sources, settings_of, tell_warnings
from cvfs.client.settings.known import KNOWN
from cvfs.client.settings.tree import Configuration
from cvfs.errors import CvfsError, UsageError
from cvfs_tools.configuration_checks import Findings, check_machine, check_repository, error
from cvfs_tools.repository_options import sources
from cvfs_tools.running import write_line

_PLAIN = re.compile(r"[0-9A-Za-z/:._,-]*")
# An exit status has room for so many.
_MOST_ERRORS = 125

_etc = click.option("--etc", metavar="DIR", help="Configuration tree in place of /etc/cvmfs  [CVFS_ETC]")
_parameters = click.option(
    "-o", "options", metavar="KEY=VALUE[,…]", multiple=True, help="CVMFS_* parameters; config=FILE[:FILE]"
)


@click.command()
@click.argument("repositories", nargs=-1)
@click.option("-s", "short", is_flag=True, help="Only parameters that are not empty")
@click.option("--json", "as_json", is_flag=True, help="As a JSON list, with the line of each value")
@_etc
@_parameters
def showconfig(
    repositories: tuple[str, ...], *, short: bool, as_json: bool, etc: str | None, options: tuple[str, ...]
) -> None:
    """Show the parameters of REPOSITORIES and where each comes from; by default of all of CVMFS_REPOSITORIES."""
    given = sources(options, etc)
    names = repositories or tuple(_configured(given))
    shown = [given.configuration(name) for name in names]
    for configuration in shown:
        tell_warnings(configuration)
    if as_json:
        write_line(json.dumps([_described(configuration) for configuration in shown], indent=2))
        return
    for configuration in shown:
        if not repositories:
            write_line(f"\nRunning cvfs showconfig {'-s ' if short else ''}{configuration.fqrn}:")
        for line in _lines(configuration, short=short):
            write_line(line)


@click.command()
@click.argument("repositories", nargs=-1)
@click.option("--no-network", is_flag=True, help="Ask no server")
@_etc
@_parameters
def chksetup(repositories: tuple[str, ...], *, no_network: bool, etc: str | None, options: tuple[str, ...]) -> None:
    """Check the configuration of REPOSITORIES, by default of all of CVMFS_REPOSITORIES; print OK if nothing is wrong.

    The exit status is the number of errors; warnings do not count.
    """
    given = sources(options, etc)
    told = set()
    for finding in _findings(given, repositories, network=not no_network):
        # What is wrong for all repositories is said once.
        if finding not in told:
            write_line(str(finding))
        told.add(finding)
    if not told:
        write_line("OK")
    sys.exit(min(sum(finding.is_error for finding in told), _MOST_ERRORS))


def _findings(given: Sources, repositories: tuple[str, ...], *, network: bool) -> Findings:
    try:
        common = given.common()
    except CvfsError as failure:
        yield error(f"failed to read configuration: {failure}")
        return
    if not given.files:
        yield from check_machine(common, checked=bool(repositories))
    for name in repositories or common.repositories():
        try:
            configuration = given.configuration(name)
        except CvfsError as failure:
            yield error(f"failed to read configuration for {name}: {failure}")
            continue
        yield from check_repository(configuration, network=network)


def _configured(given: Sources) -> list[str]:
    names = given.common().repositories()
    if not names:
        raise UsageError("CVMFS_REPOSITORIES is not set: name a repository")
    return names


def _lines(configuration: Configuration, *, short: bool) -> Iterator[str]:
    yield f"CVMFS_REPOSITORY_NAME={configuration.fqrn}"
    names = {name for name in configuration.values if name.startswith(PREFIXES)}
    names |= {name for name in KNOWN if name.startswith("CVMFS_")}
    for name in sorted(names - {"CVMFS_REPOSITORY_NAME"}):
        line, is_empty = _line(configuration, name)
        if not (short and is_empty):
            yield line


def _line(configuration: Configuration, name: str) -> tuple[str, bool]:
    if name == "CVMFS_CACHE_DIR":
        directory = _cache_directory(configuration)
        return f"{name}={_quoted(directory)}", not directory
    if name not in configuration.values:
        return f"{name}=", True
    value = configuration.values[name]
    text = _filled_in(configuration, value.text)
    return f"{name}={_quoted(text)}    # from {value.file}", not text


def _cache_directory(configuration: Configuration) -> str:
    """Where contents are kept in fact; a configuration that makes no sense keeps none."""
    try:
        return settings_of(configuration).cache.directory or ""
    except CvfsError:
        return configuration.text("CVMFS_CACHE_DIR")


def _filled_in(configuration: Configuration, text: str) -> str:
    organisation = configuration.fqrn.partition(".")[0]
    return text.replace("@fqrn@", configuration.fqrn).replace("@org@", organisation)


def _quoted(text: str) -> str:
    """As a shell takes it."""
    return text if _PLAIN.fullmatch(text) else "'" + text.replace("'", "'\\''") + "'"


def _described(configuration: Configuration) -> dict[str, Any]:
    parameters = {
        name: {"value": _filled_in(configuration, value.text), "file": value.file, "line": value.line or None}
        for name, value in sorted(configuration.values.items())
    }
    copy = configuration.copy
    return {
        "repository": configuration.fqrn,
        "parameters": parameters,
        "cache_directory": _cache_directory(configuration),
        "config_repository": {"directory": copy.directory, "revision": copy.revision} if copy else None,
        "warnings": list(configuration.warnings),
    }
