"""What is told of clients that end while a command runs; running one is in the system tests."""

import pytest

from cvfs.client.apart import running
from cvfs.kernel.namespaces import mounts_of


@pytest.mark.parametrize(("namespace", "told"), [(mounts_of("self"), 1), ("mnt:[0]", 0)], ids=["inhabited", "left"])
def test_a_client_that_ends(namespace, told, caplog):
    """With the last who is inside it ends as it should, and the kernel may tell of it first."""
    clients = {4194305: "/cvmfs/a.example.org"}
    running._tell_of_death(clients, 4194305, namespace)
    assert len(caplog.records) == told
    assert clients == {}
