"""Sets of records on disk: parted, each once, and cleared away by whoever owns the repository."""

import os

import pytest

from cvfs.errors import StoreFull
from cvfs_server.gc.inventory import Inventory


@pytest.fixture
def inventory(tmp_path):
    made = Inventory(f"{tmp_path}/inventory", 3)
    made.start()
    return made


def test_records_are_kept_once_and_in_order(inventory):
    inventory.add([b"\x01bb", b"\x00aa", b"\x01bb"])
    inventory.add([b"\x01ba"])
    assert inventory.part(1) == {b"\x01ba", b"\x01bb"}
    assert list(inventory.records()) == [b"\x00aa", b"\x01ba", b"\x01bb"]
    assert inventory.part(2) == set()


def test_one_that_is_there_is_not_mixed_with_another(inventory):
    with pytest.raises(StoreFull, match="File exists"):
        inventory.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_where_root_was_killed_the_owner_can_clear_away(tmp_path):
    os.chown(tmp_path, 1234, 1234)
    Inventory(f"{tmp_path}/below/inventory", 3).start()
    assert [os.stat(f"{tmp_path}/{name}").st_uid for name in ("below", "below/inventory")] == [1234, 1234]
