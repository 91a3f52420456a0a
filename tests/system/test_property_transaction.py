"""Random edits in the union of a transaction: what is published is the union as it was seen, revision after revision."""

import errno
import os
import random
import subprocess

import pytest

from cvfs.chunking import ChunkSizes
from cvfs_server.transaction.layout import Layout
from cvfs_server.transaction.transactions import open_transaction, publish_transaction, unmount_everything

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


@pytest.mark.parametrize("seed", range(int(os.environ.get("CVFS_EXAMPLES", "3"))))
def test_what_is_published_is_what_was_seen(new_repository, random_edits, look, look_through, seed):
    own = new_repository(compression="zlib-fast", chunk_sizes=ChunkSizes(4096, 8192, 16384))
    union = os.fsencode(Layout.of(own.site, own.settings).union)
    randomness = random.Random(seed)

    class UnionEdits(random_edits):
        def _move(self):
            try:
                super()._move()
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                # A published directory is not renamed by overlayfs, but copied by whoever wants it elsewhere.
                subprocess.run(["mv", "-T", error.filename, error.filename2], check=True)

    random_edits(os.fsencode(own.tree), randomness).run(60)
    own.publish()
    try:
        for _ in range(4):
            open_transaction(own.site, own.fqrn)
            UnionEdits(union, randomness).run(30)
            seen = _apart(look(union))
            publish_transaction(own.site, own.fqrn)
            with own.open() as repository:
                assert _apart(look_through(repository)) == seen
            # The publisher's own view of the new revision.
            assert _apart(look(union)) == seen
        assert [finding for finding in own.check() if not finding.is_warning] == []
    finally:
        unmount_everything(own.site, own.settings)


def _apart(found):
    """Without what names share a file: a union forgets that as soon as the kernel forgets the names."""
    return {path: entry._replace(together=()) for path, entry in found.items()}
