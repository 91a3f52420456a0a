"""Storages of every kind, empty."""

from collections.abc import Callable
from pathlib import Path

import pytest
from object_store import ObjectServer, object_server, relay

from cvfs_server.storage.s3 import S3Storage
from cvfs_server.storage.s3_settings import S3Upstream

__all__ = ["object_server", "relay"]


@pytest.fixture
def new_s3(object_server: ObjectServer, tmp_path: Path) -> Callable[..., S3Storage]:
    """Makes the storage of an empty repository; parameters by their names after CVMFS_S3_."""

    def make(**parameters: object) -> S3Storage:
        file = object_server.configuration(tmp_path / "s3.conf", **parameters)
        made = S3Storage.at(S3Upstream(str(tmp_path / "staging"), object_server.new_name(), str(file)))
        made.create()
        return made

    return make
