"""One large file, the same bytes each time: half of it is as good as random, half can be compressed."""

import random
from collections.abc import Callable
from pathlib import Path

MEGABYTE = 1 << 20
_HALF = MEGABYTE // 2


def of_megabytes(count: int) -> Callable[[Path], None]:
    """What makes a tree with a file `data/large` of so many MiB."""

    def make(tree: Path) -> None:
        (tree / "data").mkdir()
        with (tree / "data" / "large").open("wb") as file:
            for number in range(count):
                file.write(_block(number))

    return make


def _block(number: int) -> bytes:
    generator = random.Random(number)
    return generator.randbytes(_HALF) + generator.randbytes(_HALF // 2).hex().encode()
