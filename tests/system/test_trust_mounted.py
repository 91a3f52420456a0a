"""Trust as a user of mounts meets it: what ends an update, what ends a mount, what is remembered, what mends it."""

import shutil
import time

import pytest
from click.testing import CliRunner

from cvfs.format.whitelist import stamp
from cvfs_tools.cvfs_command import main

pytestmark = pytest.mark.system

FILE = "names/x"


@pytest.fixture
def published(publication):
    return publication()


@pytest.fixture
def mounted(client, published, web):
    """A mounted publication behind a web server."""
    one = client(published, web(published.root).url)
    one.mount()
    return one


def unmount(client) -> None:
    pid = client.state()["pid"]
    assert CliRunner().invoke(main, ["umount", str(client.mountpoint)]).exit_code == 0
    assert client.wait_gone(pid)


def behind(published, **changes) -> None:
    """As a copy of the repository that was not brought up to date."""
    earlier = {"revision": published.manifest.revision - 1, "timestamp": published.manifest.timestamp - 1}
    published.publish("s4", **earlier | changes)


def test_a_whitelist_that_expires_while_mounted(mounted, published):
    before = mounted.read(FILE)
    published.vouch(expires=stamp(time.time() - 3600))
    assert "whitelist expiry: http://" in mounted.command("remount")
    assert mounted.state()["trouble"].startswith("whitelist expiry: http://")
    assert mounted.read(FILE) == before
    assert mounted.path("chunked").is_dir()
    published.vouch(expires="20990101000000")
    mounted.command("remount")
    assert (mounted.state()["trouble"], mounted.read(FILE)) == ("", before)


def test_what_was_seen_outlives_the_cache(mounted, published):
    root = published.manifest.root_catalog
    unmount(mounted)
    shutil.rmtree(mounted.cache)
    behind(published)
    # The server lags; what it has of the newest revision is shown, and somebody is told.
    mounted_again = mounted.try_mount()
    assert (mounted_again.returncode, "all servers lag" in mounted_again.stderr) == (0, True)
    state = mounted.state()
    assert (state["root_hash"], "all servers lag" in state["trouble"]) == (str(root), True)
    published.publish("s5", revision=7, timestamp=published.manifest.timestamp + 1)
    mounted.command("remount")
    assert mounted.state()["trouble"] == ""


def test_a_repository_that_was_created_anew_is_accepted_when_somebody_says_so(mounted, published):
    unmount(mounted)
    behind(published, timestamp=published.manifest.timestamp + 1)
    refused = mounted.try_mount()
    assert refused.returncode == 33
    assert refused.stderr.startswith(f"cvfs: revision fork: {mounted.url}: revision 5 was published later than 6")
    assert f"cvfs trust reset {published.fqrn}" in refused.stderr
    state = f"CVFS_TRUST_STATE_DIR={mounted.directory}/trust"
    reset = CliRunner().invoke(main, ["trust", "reset", "-f", "-o", state, published.fqrn])
    assert (reset.exit_code, "forgot revision 6" in reset.output) == (0, True)
    assert mounted.mount()["trouble"] == ""


def test_a_node_that_has_seen_nothing_may_know_the_least_revision(client, published, web):
    fresh = client(published, web(published.root).url, "fresh")
    refused = fresh.try_mount("-o", "CVFS_MINIMUM_REVISION=7")
    assert (refused.returncode, "minimum revision: " in refused.stderr) == (33, True)
    refused = fresh.try_mount("-o", "CVFS_MAX_MANIFEST_AGE=0,CVFS_MINIMUM_REVISION=six")
    assert refused.returncode == 2
    assert fresh.mount("-o", "CVFS_MINIMUM_REVISION=6")["revision"] == 6


def test_without_a_server_it_starts_as_it_was_and_recovers(mounted, published):
    before = mounted.read(FILE)
    unmount(mounted)
    hidden = published.storage.rename(published.root / "hidden")
    assert "no server answers" in mounted.try_mount().stderr
    assert "no server answers" in mounted.state()["trouble"]
    assert mounted.read(FILE) == before
    hidden.rename(published.storage)
    mounted.command("remount")
    assert mounted.state()["trouble"] == ""
