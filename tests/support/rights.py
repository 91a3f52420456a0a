"""Rights that a test puts aside for a moment."""

import contextlib
import os

NOBODY = 65534


@contextlib.contextmanager
def not_root():
    """Root's rights are put aside, not given up."""
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
