"""Verbs that come to nothing before anything is mounted; tests/system has those that come to something."""

import os

import pytest

from cvfs.errors import Locked, UsageError
from cvfs_server.transaction.layout import Layout
from cvfs_server.transaction.record import Record, create_record
from cvfs_server.transaction.transactions import (
    TransactionOptions,
    abort_transaction,
    open_transaction,
    publish_transaction,
)


@pytest.fixture
def own(new_repository):
    return new_repository()


@pytest.mark.parametrize("patience", [0, 0.15])
def test_who_waits_for_a_transaction_is_not_in_the_way_of_its_end(own, patience):
    layout = Layout.of(own.site, own.settings)
    create_record(layout, Record(str(own.manifest().root_catalog), "", os.geteuid(), 1))
    with pytest.raises(Locked, match="is already in a transaction"):
        open_transaction(own.site, own.fqrn, TransactionOptions(patience))
    assert not os.path.exists(layout.verb_lock)


@pytest.mark.parametrize("verb", [publish_transaction, abort_transaction])
def test_nothing_is_open(own, verb):
    with pytest.raises(UsageError, match="is not in a transaction"):
        verb(own.site, own.fqrn)
    assert own.manifest().revision == 1
