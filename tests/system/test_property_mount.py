"""Random trees, changed at random: a mount that follows the repository shows every revision as the tree that was published."""

import os
import random

import pytest

from cvfs.chunking import ChunkSizes

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


@pytest.mark.both_bindings
@pytest.mark.parametrize("seed", range(int(os.environ.get("CVFS_EXAMPLES", "3"))))
def test_a_mount_follows_every_revision(new_repository, client, random_edits, look, seed):
    own = new_repository(compression="zlib-fast", chunk_sizes=ChunkSizes(4096, 8192, 16384))
    top = os.fsencode(own.tree)
    edits = random_edits(top, random.Random(seed))
    edits.run(60)
    own.publish()
    mounted = client(own, f"file://{own.site.web_root}")
    mounted.mount(*mounted.at_once)
    for _ in range(4):
        # Twice: what the kernel remembers must be right as well.
        for _ in range(2):
            assert look(os.fsencode(mounted.mountpoint)) == look(top)
        edits.run(25)
        own.publish()
        assert mounted.command("remount") == "New revision applied\n"
    assert look(os.fsencode(mounted.mountpoint)) == look(top)
