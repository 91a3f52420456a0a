"""What tests of the portable FUSE binding need of the machine."""

import os

import pytest

from cvfs.errors import MountError
from cvfs.fuse.fusepy_adapter import load_fusepy


def require_fusepy() -> None:
    """Skip without fusepy and libfuse 2; continuous integration must have them, and fails at the mount."""
    if os.environ.get("CI") != "true":
        try:
            load_fusepy()
        except MountError as error:
            pytest.skip(str(error))
