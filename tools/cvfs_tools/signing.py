"""cvfs-server resign, masterkey."""

import sys
from collections.abc import Callable

import click

from cvfs.errors import CvfsError, UsageError
from cvfs.format.whitelist import Whitelist
from cvfs_server.settings import configured_repositories
from cvfs_server.signing.keys import load_private_key
from cvfs_server.signing.masterkey import Request, export_request, install_whitelist, read_request, sign_request
from cvfs_server.signing.resign import (
    ADVISED_DAYS,
    DEFAULT_DAYS,
    resign_file,
    resign_if_due,
    resign_manifest,
    resign_whitelist,
)
from cvfs_server.site import Site
from cvfs_tools.running import one_line, write_line
from cvfs_tools.server_options import chosen_repository, confirm, site_at, site_options

_RISK = (
    f"Warning: the whitelist is to be valid for more than {ADVISED_DAYS} days.\n"
    "As long as it is, whoever steals the repository's key is believed!"
)
_FILE = click.Path(dir_okay=False)


@click.command()
@click.argument("names", metavar="[FQRN]...", nargs=-1)
@click.option("-d", "--days", metavar="DAYS", type=int, help=f"Validity of the whitelist  [default: {DEFAULT_DAYS}]")
@click.option("--hours", metavar="HOURS", type=int, help="Validity in hours, for trying out what happens when it ends")
@click.option("-w", "--whitelist", "path", type=_FILE, metavar="FILE", help="Sign the whitelist in FILE, in its place")
@click.option("-p", "--manifest", "sign_manifest", is_flag=True, help="Sign the manifest, not the whitelist")
@click.option("--auto", is_flag=True, help="Sign only if less than a third of the time is left, of all repositories")
@click.option("-f", "--force", is_flag=True, help="Do not ask")
@site_options
def resign(
    names: tuple[str, ...],
    *,
    days: int | None,
    hours: int | None,
    path: str | None,
    sign_manifest: bool,
    auto: bool,
    force: bool,
    root: str,
) -> None:
    """Sign the whitelist anew, before it expires; or the manifest, after a change of keys."""
    validity = _validity(days, hours)
    if sum((sign_manifest, path is not None, auto)) > 1 or (sign_manifest and validity):
        raise UsageError("resign: -p, -w and --auto exclude each other, and -p knows no -d")
    if validity and validity > ADVISED_DAYS and not force:
        confirm(_RISK, force=False)
    site = site_at(root)
    if auto:
        _for_each(names or configured_repositories(site), lambda name: _sign_if_due(site, name, validity))
        return
    chosen = list(names) if path is not None and names else [chosen_repository(site, name) for name in names or [None]]
    if sign_manifest:
        _for_each(chosen, lambda name: f"manifest of revision {resign_manifest(site, name).revision} signed")
    elif path is not None:
        _for_each(chosen, lambda name: _valid(resign_file(site, name, path, validity or DEFAULT_DAYS)))
    else:
        _for_each(chosen, lambda name: _valid(resign_whitelist(site, name, validity or DEFAULT_DAYS)))


@click.command()
@click.argument("fqrn", required=False)
@click.option("--export-request", "request", type=_FILE, metavar="FILE", help="Write what is to be signed elsewhere")
@click.option(
    "-d", "--days", metavar="DAYS", type=int, default=DEFAULT_DAYS, show_default=True, help="Validity to ask for"
)
@click.option("--sign", "to_sign", type=_FILE, metavar="FILE", help="Sign a request, where the master key is")
@click.option("--key", type=_FILE, metavar="KEY", help="The master key for --sign")
@click.option(
    "-o", "--output", type=_FILE, metavar="FILE", help="Where --sign puts the whitelist  [default: the request]"
)
@click.option("--install", type=_FILE, metavar="FILE", help="Publish a whitelist that was signed elsewhere")
@click.option("-f", "--force", is_flag=True, help="Do not ask")
@site_options
def masterkey(
    fqrn: str | None,
    *,
    request: str | None,
    days: int,
    to_sign: str | None,
    key: str | None,
    output: str | None,
    install: str | None,
    force: bool,
    root: str,
) -> None:
    """Keep the master key on another machine: export a request, sign it there, install the whitelist here."""
    if sum(option is not None for option in (request, to_sign, install)) != 1:
        raise UsageError("masterkey: one of --export-request, --sign and --install is needed")
    if to_sign is not None:
        _sign(to_sign, key, output or to_sign, force=force)
        return
    site = site_at(root)
    name = chosen_repository(site, fqrn)
    if install is not None:
        write_line(f"{name}: {_valid(install_whitelist(site, name, install))}")
    elif request is not None:
        _print_request(export_request(site, name, request, days))
        write_line(f"{request}: to be signed with cvfs-server masterkey --sign, where the master key is")


def _validity(days: int | None, hours: int | None) -> float | None:
    if days is not None and hours is not None:
        raise UsageError("resign: either -d or --hours")
    if 0 in {days, hours}:
        raise UsageError("resign: a whitelist is valid for at least an hour")
    return days if hours is None else hours / 24


def _for_each(names: tuple[str, ...] | list[str], sign: Callable[[str], str]) -> None:
    """One that cannot be signed does not keep the others from it."""
    failed = 0
    for name in names:
        try:
            said = sign(name)
        except CvfsError as error:
            print(one_line(f"cvfs-server: {name}: {error}"), file=sys.stderr)
            failed = error.exit_status
        else:
            if said:
                write_line(f"{name}: {said}")
    sys.exit(failed)


def _sign_if_due(site: Site, name: str, days: float | None) -> str:
    signed = resign_if_due(site, name, days)
    return _valid(signed) if signed else ""


def _valid(whitelist: Whitelist) -> str:
    return f"whitelist valid until {whitelist.expires} UTC"


def _sign(path: str, key: str | None, output: str, *, force: bool) -> None:
    if key is None:
        raise UsageError("masterkey --sign: name the file of the master key with --key")
    request: Request = read_request(path)
    load_private_key(key)  # nobody is asked in vain
    _print_request(request.whitelist)
    confirm("You are about to vouch for this certificate.", force=force)
    sign_request(request, key, output)
    write_line(f"{output}: signed; publish it with cvfs-server masterkey --install, where the repository is")


def _print_request(whitelist: Whitelist) -> None:
    write_line(f"Repository:  {whitelist.fqrn}")
    for fingerprint in whitelist.fingerprints:
        write_line(f"Certificate: {fingerprint.digest.hex(':').upper()} ({fingerprint.algorithm.name.lower()})")
    write_line(f"Valid:       {whitelist.issued} to {whitelist.expires} UTC")
