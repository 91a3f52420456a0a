"""cvfs-server transaction, abort, enter, mount, umount; and the part of publish that ends a transaction."""

import os
from collections.abc import Callable, Iterable

import click

from cvfs.errors import CvfsError, UsageError
from cvfs.hashes import as_path
from cvfs_server.settings import configured_repositories, load_settings
from cvfs_server.site import Site
from cvfs_server.sources.base import check_path
from cvfs_server.transaction.entering import enter_transaction
from cvfs_server.transaction.layout import Layout
from cvfs_server.transaction.transactions import (
    TransactionOptions,
    abort_transaction,
    mount_repository,
    open_transaction,
    unmount_repository,
)
from cvfs_server.transaction.users import works_in
from cvfs_tools.running import one_line, write_line
from cvfs_tools.server_options import chosen_repository, confirm, site_at, site_options

_FOREVER = float("inf")


@click.command()
@click.argument("names", nargs=-1, metavar="[FQRN[/PATH]]...")
@click.option(
    "-t",
    "--retry-timeout",
    "patience",
    type=click.IntRange(0),
    metavar="SECONDS",
    help="Wait while another transaction is open; 0 for as long as it takes",
)
@click.option("-T", "--template", metavar="FROM=TO", help="Begin with a copy of a directory, which costs no time")
@site_options
def transaction(names: tuple[str, ...], *, patience: int | None, template: str | None, root: str) -> None:
    """Make a repository writable; with /PATH only that directory may be changed."""
    site = site_at(root)
    wait = 0 if patience is None else patience or _FOREVER
    copied = None if template is None else _template(template)

    def run(name: str) -> None:
        fqrn, _, path = name.partition("/")
        subpath = as_path(path)
        check_path(subpath)
        place = open_transaction(site, fqrn, TransactionOptions(wait, os.fsdecode(subpath), copied))
        write_line(f"{fqrn}: in a transaction, make changes in {Layout.of(site, load_settings(site, fqrn)).union}")
        _tell_place(site, fqrn, place)

    _each(site, names, run)


@click.command()
@click.argument("names", nargs=-1, metavar="[FQRN]...")
@click.option("-f", "--force", is_flag=True, help="Ask nothing, and do it although somebody uses the files")
@site_options
def abort(names: tuple[str, ...], *, force: bool, root: str) -> None:
    """Forget what was changed in the open transaction."""
    site = site_at(root)

    def run(name: str) -> None:
        leave_repository(site, name)
        confirm(f"You are about to DISCARD ALL CHANGES OF THE CURRENT TRANSACTION for {name}!", force=force)
        abort_transaction(site, name, force=force)

    _each(site, names, run)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("fqrn", required=False)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("-r", "--fakeroot", is_flag=True, help="Appear as root, where this user is not")
@site_options
def enter(fqrn: str | None, command: tuple[str, ...], *, fakeroot: bool, root: str) -> None:
    """Run a command, by default a shell, where the open transaction has its repository at its place."""
    site = site_at(root)
    shell = os.environ.get("SHELL") or "/bin/sh"
    enter_transaction(site, chosen_repository(site, fqrn), list(command) or [shell], fakeroot=fakeroot)


@click.command()
@click.argument("names", nargs=-1, metavar="[FQRN]...")
@click.option("-a", "--all", "everything", is_flag=True, help="All repositories of this machine")
@site_options
def mount(names: tuple[str, ...], *, everything: bool, root: str) -> None:
    """Mount repositories at /cvmfs/FQRN again, with their open transactions, for instance after a reboot."""
    site = site_at(root)
    _each(site, configured_repositories(site) if everything else names, lambda name: _mount(site, name))


def _mount(site: Site, name: str) -> None:
    place = mount_repository(site, name)
    write_line(f"{name}: mounted at {Layout.of(site, load_settings(site, name)).union}")
    _tell_place(site, name, place)


@click.command()
@click.argument("names", nargs=-1, metavar="[FQRN]...")
@click.option("-a", "--all", "everything", is_flag=True, help="All repositories of this machine")
@click.option("-l", "--lazy", is_flag=True, help="Detach now, although it is in use")
@site_options
def umount(names: tuple[str, ...], *, everything: bool, lazy: bool, root: str) -> None:
    """Unmount repositories of this machine; an open transaction keeps its changes."""
    site = site_at(root)
    chosen = configured_repositories(site) if everything else names
    _each(site, chosen, lambda name: unmount_repository(site, name, lazy=lazy))


def leave_repository(site: Site, name: str) -> None:
    """Raises UsageError if this command was started where it is about to unmount."""
    union = Layout.of(site, load_settings(site, name)).union
    if works_in(union):
        raise UsageError(f"Current working directory is in {union}.  Please release, e.g. by 'cd $HOME'.")


def pause_for_tweaks(place: str) -> None:
    """What `publish -p` does before it reads anything."""
    click.prompt(f"Paused: make changes in {place}, then press Enter", default="", show_default=False, err=True)


def _template(text: str) -> tuple[str, str]:
    origin, equals, target = text.partition("=")
    if not equals:
        raise UsageError(f"--template {text}: expected two paths, /FROM=/TO")
    return f"/{origin.strip('/')}", f"/{target.strip('/')}"


def _tell_place(site: Site, name: str, place: str) -> None:
    """Where the place of the repository cannot have a link to the user's own mounts."""
    if not os.path.isdir(place) or os.path.samefile(place, Layout.of(site, load_settings(site, name)).union):
        return
    write_line(f"{name}: seen from outside of `cvfs-server enter {name}` that is {place}")


def _each(site: Site, names: Iterable[str], run: Callable[[str], None]) -> None:
    """One after the other; what fails does not keep the rest. The exit status is that of the first failure."""
    status = 0
    for name in list(names) or [chosen_repository(site, None)]:
        try:
            run(name.rstrip("/"))
        except CvfsError as error:
            click.echo(f"cvfs-server: {one_line(str(error))}", err=True)
            status = status or error.exit_status
    if status:
        raise SystemExit(status)
