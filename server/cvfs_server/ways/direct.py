"""A publish that needs no transaction, as a site sees it: its hooks around, and root's mount shows what was published."""

from cvfs_server.hooks import run_hook
from cvfs_server.publication import PublishOptions, PublishReport
from cvfs_server.publish import OpenSource, collect_garbage, publish, published_already
from cvfs_server.settings import load_settings
from cvfs_server.site import Site
from cvfs_server.transaction.transactions import refresh_mount


def publish_directly(
    site: Site, fqrn: str, open_source: OpenSource, options: PublishOptions | None = None
) -> PublishReport:
    """Publish changes. Raises as `publish` does, UsageError if a hook does not want it."""
    options = options or PublishOptions()
    settings = load_settings(site, fqrn)
    run_hook(site, "publish", "before", fqrn)
    report = publish(site, fqrn, open_source, options)
    with published_already(fqrn, "its mount on this machine does not show it", options):
        refresh_mount(site, settings)
    run_hook(site, "publish", "after", fqrn)
    collect_garbage(site, fqrn, options)
    return report
