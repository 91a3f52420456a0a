"""A parent mount whose clients are there at once (`instant_client`): DIRECTORY IDLE, seconds, and WITHIN, seconds for a mount."""

import logging
import os
import sys

from cvfs.client.parent import keeper
from cvfs.client.parent.parent import run
from cvfs.errors import UsageError

directory, idle, within = sys.argv[1:]
keeper.MOUNTED_WITHIN = float(within)
keeper.REFUSED_FOR = 1.0


def words(fqrn: str) -> list[str]:
    if fqrn.startswith("forbidden"):
        raise UsageError(f"Not allowed to mount {fqrn}")
    client = os.path.join(os.path.dirname(__file__), "instant_client.py")
    return [sys.executable, "-I", "-S", client, fqrn, os.path.join(directory, fqrn)]


logging.basicConfig(level=logging.INFO, format="%(message)s")
run(keeper.Where(directory, float(idle)), words, lambda: print("ready", flush=True))
