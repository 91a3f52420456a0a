"""Writes what the programs say of themselves as files for `share/`: manual pages, and scripts with which shells complete."""

import os
import sys
import time
from pathlib import Path

import manual

from cvfs_tools.completing import script

_COMPLETIONS = {
    "bash": "bash-completion/completions/{}",
    "zsh": "zsh/site-functions/_{}",
    "fish": "fish/vendor_completions.d/{}.fish",
}
"""Where the shells look, below `share/`."""
_COMPLETED = ("cvfs", "cvfs-server")


def write(directory: Path, date: str) -> list[Path]:
    """All files below a directory; `date` is what the manual's pages are dated."""
    texts: dict[str, str] = {}
    for program in manual.programs():
        texts |= {f"man/man{program.section}/{name}": text for name, text in manual.pages(program, date)}
        if program.name in _COMPLETED:
            texts |= {
                place.format(program.name): script(program.command, program.name, shell)
                for shell, place in _COMPLETIONS.items()
            }
    return [_write(directory / name, text) for name, text in sorted(texts.items())]


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def main() -> None:
    """`pages.py DIRECTORY`, dated by SOURCE_DATE_EPOCH, else by nothing."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    date = time.strftime("%Y-%m-%d", time.gmtime(int(epoch))) if epoch else ""
    print(f"{sys.argv[1]}: {len(write(Path(sys.argv[1]), date))} files")


if __name__ == "__main__":
    main()
