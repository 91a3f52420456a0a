"""How this program starts Python anew, and how others start this program: command lines only, it runs nothing.

The modules may be installed, in a checkout, or unpacked from the single file `cvfs.pyz`. An interpreter that is started finds
the modules of this one, whatever its environment and its working directory are.
"""

import os
import sys

IN_USE = ".in-use"
"""A file beside the packages that were unpacked from the single file: who runs from there holds a shared lock on it."""

_PATH = "import sys; sys.path[:] = {paths}; sys.argv[0] = {program!a}"
_ALONE = "import sys; sys.path.insert(0, {root!a}); sys.argv[0] = {program!a}"
_HOLD = "; import fcntl, os; fcntl.flock(os.open({place!a}, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_SH)"
_CALL = "; from {module} import main; sys.exit(main())"


def python(module: str, *, program: str = "cvfs", bare: bool = False) -> list[str]:
    """The words that run `main()` of a module in a new interpreter; its arguments are to follow.

    `program` is what it calls itself. A `bare` one has nothing but the standard library and the package `cvfs`, which saves
    memory, and none of its environment's wishes.
    """
    root = package_root()
    start = _ALONE.format(root=root, program=program) if bare else _PATH.format(paths=_paths(), program=program)
    held = os.path.join(root, IN_USE)
    hold = _HOLD.format(place=held) if os.path.exists(held) else ""
    # -P: the working directory, which may be anybody's, holds no modules of ours.
    flags = ("-I", "-S") if bare else ("-P",)
    return [sys.executable, *flags, "-c", start + hold + _CALL.format(module=module)]


def command(program: str) -> list[str]:
    """The words that start `cvfs`, `cvfs-server` or `mount.cvfs` later, from a unit or a table of the system.

    From the single file: the interpreter, the file, and the program's name. Installed: the script that was installed beside
    the interpreter, or else the one on the PATH; where there is none, an interpreter with the modules of this one.
    """
    archive = single_file()
    if archive:
        return [sys.executable, archive, program]
    for directory in (os.path.dirname(sys.executable), *os.get_exec_path()):
        script = os.path.join(directory, program)
        if os.path.isabs(script) and os.access(script, os.X_OK):
            return [script]
    return python(_MODULES[program], program=program)


def single_file() -> str | None:
    """The path of the single file that this process was started from, None if it was not."""
    started = getattr(sys.modules.get("__main__"), "__file__", None)
    archive = os.path.dirname(os.path.abspath(started)) if started else ""
    return archive if os.path.isfile(archive) else None


def package_root() -> str:
    """The directory that holds the package `cvfs`."""
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


_MODULES = {
    "cvfs": "cvfs_tools.cvfs_command",
    "cvfs-server": "cvfs_tools.server_command",
    "mount.cvfs": "cvfs_tools.mount_helper",
}


def _paths() -> str:
    """Where this interpreter finds modules, but for the working directory, which the empty word stands for."""
    return ascii([os.path.abspath(path) for path in sys.path if path])
