"""The options of `cvfs setup --cloud-init`: what the command line says into what the site wants; it writes nothing."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import click

from cvfs.errors import UsageError
from cvfs_tools.setup.cloud_init import MOST_USER_DATA, Contextualisation, Installation, hook, other_file, parameters
from cvfs_tools.setup.site_files import Site

Function = TypeVar("Function", bound=Callable[..., Any])


class _Option(NamedTuple):
    """An option that makes sense in a document only; without `metavar` it is a switch."""

    flag: str
    name: str
    metavar: str | None
    help: str
    multiple: bool = False


_OPTIONS = (
    _Option("--install", "install", "WHAT", "what pip installs: a name, a version, a wheel  [cvfs]"),
    _Option("--wheels", "wheels", "URL|DIR", "where pip finds all it needs, offline"),
    _Option("--python", "python", "PROGRAM", "Python 3.11 or newer of the image  [python3]"),
    _Option("--installed", "installed", None, "cvfs is in the image"),
    _Option("--package", "packages", "NAME", "another package to install", multiple=True),
    _Option("--prolog", "prologs", "FILE", "script to run before anything of cvfs", multiple=True),
    _Option("--epilog", "epilogs", "FILE", "script to run when all is mounted", multiple=True),
    _Option("--file", "files", "PLACE=FILE", "a file of yours for the machine", multiple=True),
    _Option("-o", "assigned", "KEY=VALUE", "a parameter, CVMFS_* or CVFS_*", multiple=True),
)
# What says how this machine is changed.
_OF_NO_USE = ("remove", "dry_run", "no_start", "force", "directory")
_SWITCH = click.option(
    "--cloud-init", is_flag=True, help="Print a document for cloud-init that makes such a machine, do nothing here"
)


def cloud_init_options(function: Function) -> Function:
    """Add the options to a command; it receives them as keyword arguments for `document`."""
    for option in reversed(_OPTIONS):
        help_text = f"With --cloud-init: {option.help}"
        if option.metavar is None:
            function = click.option(option.flag, option.name, is_flag=True, help=help_text)(function)
        else:
            added = click.option(
                option.flag, option.name, metavar=option.metavar, multiple=option.multiple, help=help_text
            )
            function = added(function)
    return _SWITCH(function)


def refuse_without_document(options: Mapping[str, object]) -> None:
    """Raises UsageError for what makes sense in a document only: it would be passed over in silence."""
    for option in _OPTIONS:
        if options[option.name]:
            raise UsageError(f"{option.flag} says what comes into a document for cloud-init: add --cloud-init")


def document(site: Site, style: str, options: Mapping[str, Any]) -> str:
    """The document for cloud-init, by all options of `cvfs setup`. Raises UsageError."""
    for name in _OF_NO_USE:
        if options.get(name):
            flag = "--bin" if name == "directory" else f"--{name.replace('_', '-')}"
            raise UsageError(f"--cloud-init prints a document and does nothing else: leave out {flag}")
    text = Contextualisation(
        site,
        style,
        parameters(options["assigned"]),
        tuple(map(other_file, options["files"])),
        _installation(options),
        options["packages"],
        tuple(map(hook, options["prologs"])),
        tuple(map(hook, options["epilogs"])),
        tuple(_passed_on(options)),
    ).document()
    _warn_of_missing(site, options)
    if len(text) > MOST_USER_DATA:
        advice = f"some clouds take {MOST_USER_DATA}: hand it over compressed by gzip, as cloud-init reads it too"
        click.echo(f"cvfs: warning: the document has {len(text)} bytes, {advice}", err=True)
    return text


def _warn_of_missing(site: Site, options: Mapping[str, Any]) -> None:
    """What no mount does without must be in the image, unless something that is brought may hold it."""
    if options["files"] or options["packages"] or options["installed"]:
        return
    said = parameters(options["assigned"]).keys()
    needed = {
        "servers (-w URL)": site.url or "CVMFS_SERVER_URL" in said,
        "keys (-k FILE)": site.keys or said & {"CVMFS_PUBLIC_KEY", "CVMFS_KEYS_DIR", "CVMFS_ROOT_HASH"},
        "a proxy (-p URL, --single)": site.proxy or site.single or said & {"CVMFS_HTTP_PROXY", "CVMFS_CLIENT_PROFILE"},
    }
    if missing := [words for words, there in needed.items() if not there]:
        advice = "the image's own /etc/cvmfs must do so, or nothing will be mounted"
        click.echo(f"cvfs: warning: the document does not name {', '.join(missing)}: {advice}", err=True)


def _installation(options: Mapping[str, Any]) -> Installation:
    install, wheels, python = options["install"], options["wheels"], options["python"]
    if not options["installed"]:
        return Installation(install or "cvfs", wheels, python or "python3")
    if install or wheels or python:
        raise UsageError("--installed: nothing is installed then: leave out --install, --wheels and --python")
    return Installation(None)


def _passed_on(options: Mapping[str, Any]) -> list[str]:
    """What `cvfs setup` is to be told on the machine."""
    mount_dir = ["--mount-dir", options["mount_dir"]] if options["mount_dir"] else []
    return [*mount_dir, *(["--as-cvmfs"] if options["as_cvmfs"] else [])]
