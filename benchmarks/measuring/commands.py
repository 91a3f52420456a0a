"""The commands of cvfs as their users run them: where they are and in what surroundings; it imports nothing of theirs."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.model import Failed

_CALL = "import sys; from cvfs_tools.{module} import main; main(prog_name={program!r})"
CVFS = (sys.executable, "-P", "-c", _CALL.format(module="cvfs_command", program="cvfs"))
CVFS_SERVER = (sys.executable, "-P", "-c", _CALL.format(module="server_command", program="cvfs-server"))
_PATIENCE = 1800.0


def environment(work: Path) -> dict[str, str]:
    """That of installed programs, which have their bytecode, whatever this process's environment says of writing any."""
    kept = {name: value for name, value in os.environ.items() if name not in _CHANGING}
    found = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
    return kept | {"PYTHONPATH": found, "PYTHONPYCACHEPREFIX": str(work / "bytecode")}


# What would change how the commands work from one person's shell to the other's.
_CHANGING = frozenset(
    {"PYTHONDONTWRITEBYTECODE", "CVFS_FUSE_BINDING", "CVFS_ETC", "CVFS_ROOT", "PYTHONPROFILEIMPORTTIME"}
)


def called(words: Sequence[str | Path], work: Path, patience: float = _PATIENCE, **more: str) -> str:
    """What a command prints; `more` is added to its environment. Raises Failed with the last line of its complaint."""
    try:
        done = subprocess.run(
            [os.fspath(word) for word in words],
            env=environment(work) | more,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=patience,
            start_new_session=True,
        )
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {error.returncode}"]
        raise Failed(f"{_named(words)}: {lines[-1]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{_named(words)}: {error}") from error
    return done.stdout.decode(errors="replace")


def _named(words: Sequence[str | Path]) -> str:
    """What it is called in a complaint: the interpreter's own words say nothing."""
    return " ".join(map(str, words[4:6] if words[0] == sys.executable else words[:2]))
