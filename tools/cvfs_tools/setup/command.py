"""The verb `cvfs setup`: options into a plan, the plan shown or carried out."""

import contextlib
import dataclasses
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from cvfs.client.configuration_sources import Sources
from cvfs.client.local_file import read_local
from cvfs.client.settings.places import STANDARD_ETC
from cvfs.client.settings.tree import DEFAULT_MOUNT_DIR, Configuration
from cvfs.errors import FormatError, UsageError
from cvfs.format.fqrn import check_fqrn
from cvfs.format.signature import load_public_key
from cvfs_tools.running import write_line
from cvfs_tools.setup import autofs, fstab, programs, units
from cvfs_tools.setup.contextualising import cloud_init_options, document, refuse_without_document
from cvfs_tools.setup.performing import Outcome, SetUp, alone, is_this_machine
from cvfs_tools.setup.plan import MOUNTS, Section, joined
from cvfs_tools.setup.showing import shown, summary
from cvfs_tools.setup.site_files import Site, site_files

_LARGEST_KEY = 2**20
_NAMEABLE = re.compile(r"(?:/[A-Za-z0-9._@+-]+)+/?")


@click.command()
@click.argument("repositories", nargs=-1)
@click.option(
    "--parent", "style", flag_value="parent", default=True, help="One mount that mounts on first access [default]"
)
@click.option("--systemd", "style", flag_value="systemd", help="A unit for each repository, mounted at boot")
@click.option("--fstab", "style", flag_value="fstab", help="A line of /etc/fstab for each repository")
@click.option("--autofs", "style", flag_value="autofs", help="A map for autofs, which mounts on first access")
@click.option("--remove", is_flag=True, help="Take back all that earlier set-ups did")
@click.option("--dry-run", is_flag=True, help="Show what would be done, do nothing")
@click.option("--force", is_flag=True, help="Put aside what is in the way, until --remove brings it back")
@click.option("--no-start", is_flag=True, help="Mount nothing now, only from the next boot on")
@click.option("--as-cvmfs", is_flag=True, help="Serve -t cvmfs in tables too, where the original is not installed")
@click.option("-p", "--proxy", metavar="URL", help="HTTP proxy of the site  [CVMFS_HTTP_PROXY]")
@click.option("--single", is_flag=True, help="A machine by itself, without a proxy  [CVMFS_CLIENT_PROFILE]")
@click.option("-w", "--url", metavar="URL", help="Servers of the REPOSITORIES named  [CVMFS_SERVER_URL]")
@click.option("-k", "--key", "keys", metavar="FILE", multiple=True, help="Public master key, copied into keys/")
@click.option("-q", "--quota", metavar="MB", type=click.IntRange(min=1), help="Cache limit  [CVMFS_QUOTA_LIMIT]")
@click.option("--mount-dir", metavar="DIR", help="Where repositories are mounted  [/cvmfs, CVMFS_MOUNT_DIR]")
@click.option("--root", metavar="DIR", default="/", help="Set up the files of another machine, an image or a chroot")
@click.option("--bin", "directory", metavar="DIR", help="Where the commands will be installed on that machine")
@cloud_init_options
def setup(
    repositories: tuple[str, ...],
    *,
    style: str,
    remove: bool,
    dry_run: bool,
    no_start: bool,
    cloud_init: bool,
    **options: Any,
) -> None:
    """Make repositories appear at boot. REPOSITORIES are by default those of CVMFS_REPOSITORIES.

    Done as often as you like: the last call counts. All of it is remembered, and --remove takes it back.
    """
    names = tuple(check_fqrn(name) for name in repositories)
    _refuse_nothings(options)
    if options["mount_dir"]:
        options["mount_dir"] = _nameable(options["mount_dir"])
    if cloud_init:
        told = {**options, "remove": remove, "dry_run": dry_run, "no_start": no_start}
        sys.stdout.write(document(_site(names, **options), style, told))
        return
    refuse_without_document(options)
    if not dry_run:
        _refuse_without_root(options["root"])
    made = SetUp(options["root"], force=options["force"])
    with contextlib.nullcontext() if dry_run else alone(options["root"]):
        outcome = made.plan_removal() if remove else made.plan(_sections(style, names, **options), start=not no_start)
        if dry_run:
            for line in shown(outcome):
                write_line(line)
            return
        _perform(made, outcome)
    if not remove and is_this_machine(options["root"]):
        _warn_of_others(programs.words("cvfs", options["directory"]))


def _refuse_nothings(options: Mapping[str, Any]) -> None:
    """What a script's empty variable says would be passed over in silence."""
    for flag, name in (("-p", "proxy"), ("-w", "url"), ("--mount-dir", "mount_dir"), ("--bin", "directory")):
        if options[name] == "":
            raise UsageError(f"{flag}: nothing is said, leave it out")
    if options["directory"] and not os.path.isabs(options["directory"]):
        raise UsageError(f"--bin {options['directory']}: units and links need an absolute path")


def _refuse_without_root(root: str) -> None:
    if os.geteuid() != 0 and is_this_machine(root):
        raise UsageError(
            "only root can set up a machine: --dry-run shows what would be done; without root, cvfs exec needs no set-up"
        )


def _warn_of_others(words: Sequence[str]) -> None:
    """What is started at boot is started as root."""
    if reason := programs.not_roots_alone(words):
        advice = "install cvfs where only root may write, and set up anew"
        click.echo(f"cvfs: warning: root will run {words[0]}, but {reason}: {advice}", err=True)


def _perform(made: SetUp, outcome: Outcome) -> None:
    made.perform(outcome, write_line)
    for change in outcome.changes:
        write_line(summary(change))
    for place in outcome.left:
        write_line(f"kept    {place}: changed since, remove it yourself or with --force")
    if not outcome.changes:
        write_line("nothing to change")


def _sections(style: str, names: tuple[str, ...], *, directory: str | None, **options: Any) -> list[Section]:
    # Who says which ones to mount at boot need not have others in the list.
    site = dataclasses.replace(_site(names, **options), keeps_list=style in ("systemd", "fstab"))
    place = options["mount_dir"] or _nameable(_mount_directory(options["root"]))
    if style == "parent":
        mounts = units.parent_unit(programs.words("cvfs", directory), place)
    elif style == "autofs":
        mounts = autofs.autofs_map(place)
    elif style == "systemd":
        mounts = units.single_units(programs.words("cvfs", directory), place, names or _configured(options["root"]))
    else:
        mounts = fstab.fstab_lines(place, names or _configured(options["root"]))
    helpers = programs.helpers(directory, as_cvmfs=options["as_cvmfs"])
    found = [] if site.is_empty or _is_configured(site, options["root"]) else [site_files(site)]
    return [*found, joined(MOUNTS, (helpers, mounts))]


def _site(
    names: tuple[str, ...],
    *,
    proxy: str | None,
    single: bool,
    url: str | None,
    keys: tuple[str, ...],
    quota: int | None,
    **_others: Any,
) -> Site:
    if url and not names:
        raise UsageError(f"-w {url}: name the repositories that are served there")
    return Site(names, proxy, url, quota, {os.path.basename(path): _key(path) for path in keys}, single=single)


def _is_configured(site: Site, root: str) -> bool:
    """Whether nothing but names is said, and a list is there that may stay: an earlier call said what else there is to say."""
    if site != Site(site.repositories, keeps_list=site.keeps_list):
        return False
    common = _common(root)
    listed = set(common.repositories() if common else ())
    return bool(listed) if site.keeps_list else listed == set(site.repositories)


def _key(path: str) -> bytes:
    text = read_local(path, _LARGEST_KEY)
    try:
        load_public_key(text)
    except FormatError as error:
        raise UsageError(f"{path}: {error}") from error
    if not path.endswith(".pub"):
        raise UsageError(f"{path}: clients read keys from files whose names end in .pub: rename it")
    return text


def _common(root: str) -> Configuration | None:
    """What the configuration of that machine says for all repositories; None if it has none."""
    etc = os.path.join(root, STANDARD_ETC.lstrip("/"))
    return Sources(etc=etc).common() if os.path.isdir(etc) else None


def _mount_directory(root: str) -> str:
    common = _common(root)
    return (common.text("CVMFS_MOUNT_DIR") if common else "") or DEFAULT_MOUNT_DIR


def _nameable(directory: str) -> str:
    """A directory that can be named in units, tables and maps alike, each of which has marks of its own."""
    if not _NAMEABLE.fullmatch(directory) or os.path.normpath(directory) != directory.rstrip("/"):
        raise UsageError(f"{directory!r}: mount below an absolute path of letters, digits and ._@+-, as /cvmfs is one")
    return directory.rstrip("/")


def _configured(root: str) -> tuple[str, ...]:
    common = _common(root)
    names = tuple(check_fqrn(name) for name in common.repositories()) if common else ()
    if not names:
        raise UsageError("no repository is named, and CVMFS_REPOSITORIES is not set: say which ones are to be mounted")
    return names
