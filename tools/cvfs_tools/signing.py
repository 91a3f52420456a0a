"""cvfs-server resign."""

import click

from cvfs_server.resign import DEFAULT_DAYS, resign_manifest, resign_whitelist
from cvfs_tools.running import write_line
from cvfs_tools.server_options import chosen_repository, site_at, site_options


@click.command()
@click.argument("fqrn", required=False)
@click.option("-d", "--days", type=int, default=DEFAULT_DAYS, show_default=True, help="Validity of the whitelist")
@click.option("-p", "--manifest", "sign_manifest", is_flag=True, help="Sign the manifest, not the whitelist")
@click.option("-f", "--force", is_flag=True, help="Ask nothing (nothing is asked)")
@site_options
def resign(fqrn: str | None, *, days: int, sign_manifest: bool, force: bool, root: str) -> None:
    """Sign the whitelist anew, before it expires; or the manifest, after a change of keys."""
    del force
    site = site_at(root)
    name = chosen_repository(site, fqrn)
    if sign_manifest:
        write_line(f"{name}: manifest of revision {resign_manifest(site, name).revision} signed")
    else:
        write_line(f"{name}: whitelist valid until {resign_whitelist(site, name, days).expires} UTC")
