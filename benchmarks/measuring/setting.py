"""What a figure means nothing without: machine, kernel, file system, versions and commit; measures nothing."""

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import cvfs
from benchmarks.network.serving import nginx

_PATIENCE = 20.0
_PROJECT = Path(__file__).parents[2]


def setting(work_dir: Path) -> Mapping[str, str]:
    """By name, in the order of reports. What is not there has no line; `work_dir` is where everything is put."""
    facts = {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {_memory_gigabytes()} GB of memory",
        "kernel": f"{platform.system()} {platform.release()}",
        "distribution": _distribution(),
        "filesystem": _filesystem(work_dir),
        "user": "root" if os.geteuid() == 0 else "ordinary",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "cvfs": cvfs.__version__,
        "commit": _commit(),
        "libfuse": _last_word("fusermount3", "--version"),
        "libfuse2": _last_word("fusermount", "--version"),
        "fusepy": _version_of("fusepy"),
        "isal": _version_of("isal"),
        "zstandard": _version_of("zstandard"),
        "web server": "nginx" if nginx() else "cvfs-server serve",
        "cvmfs2": _first_line("cvmfs2", "--version"),
        "tools": ", ".join(filter(None, (_first_line(tool, "--version") for tool in ("cp", "tar", "zstd", "find")))),
    }
    return {name: fact for name, fact in facts.items() if fact}


def _processor() -> str:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gigabytes() -> int:
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""


def _filesystem(place: Path, proc: Path = Path("/proc")) -> str:
    """Its type. Where files were deleted in ext4 without a journal, new ones take up to a millisecond each for minutes."""
    status = place.stat()
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    found = next((line for line in _lines(f"{proc}/self/mountinfo") if line.split()[2] == device), "")
    kind, source = ([*found.partition(" - ")[2].split(), "", ""])[:2]
    name = Path(source).name
    if kind == "ext4" and (proc / "fs/ext4" / name).is_dir() and not any((proc / "fs/jbd2").glob(f"{name}-*")):
        return "ext4 without a journal: creating files is slow after many were deleted"
    return kind or _first_line("stat", "-f", "-c", "%T", str(place))


def _commit() -> str:
    """With a plus sign if what ran is not what was committed; empty outside of a checkout."""
    commit = _first_line("git", "-C", str(_PROJECT), "rev-parse", "--short=12", "HEAD")
    changed = _first_line(
        "git", "--no-optional-locks", "-C", str(_PROJECT), "status", "--porcelain", "--untracked-files=no"
    )
    return f"{commit}+" if commit and changed else commit


def _version_of(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _last_word(*command: str) -> str:
    return _first_line(*command).rpartition(" ")[2]


def _first_line(*command: str) -> str:
    """Of what a program prints, empty if there is no such program or it fails."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_PATIENCE)
    # zstd frames what it says with stars.
    return done.stdout.partition("\n")[0].strip("* ") if done.returncode == 0 else ""
