"""The single file's modules, unpacked into a private directory at first use; needs the standard library only, runs no program.

A Python cannot import compiled modules out of an archive. The directory is made whole under another name and renamed, its name
says what is in it, and nobody else may have been able to write there. Who runs from it holds a lock on it, so that only what
nobody has used for a while is removed.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import pwd
import shutil
import signal
import stat
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES

PROGRAMS = {
    "cvfs": "cvfs_tools.cvfs_command",
    "cvfs-server": "cvfs_tools.server_command",
    "mount.cvfs": "cvfs_tools.mount_helper",
}
"""What can be started, and the module whose `main` it is."""

IN_USE = ".in-use"
"""As `cvfs.interpreter` knows it: processes that the program starts hold it, too."""

REFUSED = (OSError, ValueError, KeyError, RuntimeError, EOFError, zipfile.BadZipFile)
"""What `unpacked` raises: no place, or an archive that is damaged, in one of the ways in which `zipfile` says so."""

_INDEX = ".index"
_LOCK = ".lock"
_UNUSED = 7 * 86400
"""Seconds after which another version is removed."""
_UNFINISHED = 3600
"""Seconds after which what a killed process left is removed: longer than a host takes that shares the place, but no lock."""
_TOUCHED_EVERY = 86400
_LOCKED_WITHIN, _PAUSE = 60.0, 0.02
_ALL_USERS = "0 0 4294967295"


def main(started: str) -> None:
    """Become the program that was asked for. `started` is the file of the `__main__` module, inside of the archive."""
    archive = os.path.dirname(os.path.abspath(started))
    # The program asks it later, when the working directory is another one.
    sys.modules["__main__"].__file__ = os.path.join(archive, "__main__.py")
    program = chosen_program(sys.argv)
    try:
        modules = unpacked(archive, target(), candidates(os.environ))
    except REFUSED as error:
        sys.exit(f"{program}: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    sys.path[:] = [modules, *(path for path in sys.path if path and os.path.abspath(path) != archive)]
    sys.exit(import_module(PROGRAMS[program]).main())


def chosen_program(arguments: list[str]) -> str:
    """By the name of the file, or of a link to it, else by the first word, which is removed, else `cvfs`."""
    name = os.path.basename(arguments[0]).removesuffix(".pyz")
    if name not in PROGRAMS or name == "cvfs":
        name = arguments.pop(1) if arguments[1:] and arguments[1] in PROGRAMS else "cvfs"
    arguments[0] = name
    return name


def target() -> str:
    """What compiled modules are named by in this Python: `cpython-311-x86_64-linux-gnu`."""
    return EXTENSION_SUFFIXES[0].strip(".").removesuffix(".so")


def candidates(environment: Mapping[str, str]) -> list[str]:
    """Directories that may keep the modules, the best first."""
    user = os.geteuid()
    caches = [environment.get("XDG_CACHE_HOME", ""), os.path.join(environment.get("HOME", ""), ".cache")]
    with contextlib.suppress(KeyError):
        caches.append(os.path.join(pwd.getpwuid(user).pw_dir, ".cache"))
    if user == 0:
        # A mount of root's may become another user, who then loads modules.
        caches.insert(0, "/var/cache")
    short = [environment.get(name, "") for name in ("XDG_RUNTIME_DIR", "TMPDIR")]
    places = [os.path.join(cache, "cvfs-modules") for cache in caches]
    places += [os.path.join(place, f"cvfs-modules-{user}") for place in (*short, "/tmp", "/var/tmp", "/dev/shm")]  # noqa: S108
    return [place for place in dict.fromkeys(places) if os.path.isabs(place)]


def unpacked(archive: str, wanted: str, places: list[str]) -> str:
    """The directory with all modules, which this process uses until it ends. Raises what is in REFUSED."""
    with zipfile.ZipFile(archive) as file:
        parts = _parts(file, wanted)
        name = f"modules-{hashlib.sha256(''.join(parts.values()).encode()).hexdigest()[:20]}"
        reasons = []
        for place in places:
            try:
                return _unpacked_in(file, parts, place, name)
            except OSError as error:
                reasons.append(f"{place}: {error.strerror or error}")
    raise OSError(f"no directory to unpack into: set TMPDIR to one of your own ({'; '.join(reasons)})")


def _parts(file: zipfile.ZipFile, wanted: str) -> dict[str, str]:
    """Archives inside of the archive that this Python needs, and the SHA-256 of each."""
    targets = json.loads(file.read("targets.json"))
    if wanted not in targets:
        raise ValueError(
            f"this file holds modules for {', '.join(sorted(targets))}, and this Python is {wanted}: "
            "use another python3, or install the package cvfs with pip"
        )
    return dict(targets[wanted])


def _unpacked_in(file: zipfile.ZipFile, parts: dict[str, str], place: str, name: str) -> str:
    with _rights():
        os.makedirs(place, exist_ok=True)
    # A link on the way may be somebody else's, who may change it.
    place = os.path.realpath(place)
    check_private(place)
    if os.statvfs(place).f_flag & os.ST_NOEXEC:
        raise OSError("compiled modules cannot be loaded from there (noexec)")
    directory = os.path.join(place, name)
    if _hold(directory):
        return directory
    with _alone(place):
        if _hold(directory):
            return directory
        _unpack(file, parts, directory)
        _remove_unused(place, name)
    if not _hold(directory):
        raise OSError("modules that were just unpacked are not whole")
    return directory


def _mode() -> int:
    """Root's is for all to read: see `candidates`."""
    return 0o755 if os.geteuid() == 0 else 0o700


@contextlib.contextmanager
def _rights() -> Iterator[None]:
    """What is made gets these, whatever the user's mask says; no other thread runs yet."""
    before = os.umask(0o777 & ~_mode())
    try:
        yield
    finally:
        os.umask(before)


def check_private(place: str) -> None:
    """Nobody else can change what is there, or put something in its place; the path has no links. Raises OSError."""
    trusted = {0, os.geteuid(), *_unmapped_users()}
    path, own = place, os.lstat(place)
    if own.st_uid != os.geteuid() or stat.S_IMODE(own.st_mode) & ~_mode():
        raise OSError(f"owner {own.st_uid} and mode {stat.S_IMODE(own.st_mode):o} are not those of a private directory")
    while path != "/":
        path = os.path.dirname(path)
        above = os.lstat(path)
        if above.st_uid not in trusted or (above.st_mode & 0o022 and not above.st_mode & stat.S_ISVTX):
            raise OSError(f"others may write to {path}")


def _unmapped_users() -> set[int]:
    """In a user namespace all users that it does not know, root among them, have one number."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        if " ".join(file.read().split()) == _ALL_USERS:
            return set()
    with open("/proc/sys/kernel/overflowuid", encoding="ascii") as file:
        return {int(file.read())}


def _hold(directory: str) -> bool:
    """Whether the modules are there, whole; if so they stay while this process, or one that it forks, runs."""
    lock = os.path.join(directory, IN_USE)
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    _lock(descriptor, fcntl.LOCK_SH)
    if _is_whole(directory, descriptor):
        return True
    os.close(descriptor)
    return False


def _lock(descriptor: int, kind: int) -> None:
    """Raises OSError if another process, which may have been stopped, does not let go in time; or if there are no locks."""
    deadline = time.monotonic() + _LOCKED_WITHIN
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise OSError(f"another process has held its lock for {_LOCKED_WITHIN:g} s") from None
            time.sleep(_PAUSE)
        else:
            return


def _is_whole(directory: str, lock: int) -> bool:
    """After a power cut files may be empty; what cleans a directory for temporary files takes them one by one."""
    try:
        if not os.path.samestat(os.fstat(lock), os.stat(os.path.join(directory, IN_USE))):
            return False
        check_private(directory)
        with open(os.path.join(directory, _INDEX), "rb") as file:
            sizes = json.load(file)
        whole = all(os.lstat(os.path.join(directory, path)).st_size == size for path, size in sizes.items())
        if whole and time.time() - os.fstat(lock).st_mtime > _TOUCHED_EVERY:
            os.utime(lock)
    except (OSError, ValueError):
        return False
    return whole


def _unpack(file: zipfile.ZipFile, parts: dict[str, str], directory: str) -> None:
    """Under another name first; what is there, and not whole, is moved out of the way."""
    new = tempfile.mkdtemp(prefix=".new-", dir=os.path.dirname(directory))
    try:
        os.chmod(new, _mode())
        sizes: dict[str, int] = {}
        with _rights():
            for part, digest in parts.items():
                sizes |= _extract(_verified(file, part, digest), new)
            _write(os.path.join(new, _INDEX), json.dumps(sizes).encode())
            _write(os.path.join(new, IN_USE), b"")
        _put_in_place(new, directory)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _verified(file: zipfile.ZipFile, part: str, digest: str) -> zipfile.ZipFile:
    content = b""
    with contextlib.suppress(zipfile.BadZipFile):
        content = file.read(part)
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"{file.filename}: {part} is damaged: fetch the file again")
    return zipfile.ZipFile(io.BytesIO(content))


def _extract(part: zipfile.ZipFile, directory: str) -> dict[str, int]:
    """All files, and the size of each. The names were made by the build, and its sum was verified."""
    for entry in part.infolist():
        path = os.path.join(directory, entry.filename)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _write(path, part.read(entry))
    return {entry.filename: entry.file_size for entry in part.infolist()}


def _write(path: str, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)


def _put_in_place(new: str, directory: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.rename(directory, os.path.join(new, ".damaged"))
    os.rename(new, directory)
    shutil.rmtree(os.path.join(directory, ".damaged"), ignore_errors=True)


@contextlib.contextmanager
def _alone(place: str) -> Iterator[None]:
    """Many jobs begin at once: one unpacks, the others find it done."""
    # For writing: over NFS only such a file can be locked so.
    descriptor = os.open(os.path.join(place, _LOCK), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_unused(place: str, present: str) -> None:
    """Other versions that nobody runs from, nor has used for a week, and what a killed process left."""
    for name in os.listdir(place):
        directory = os.path.join(place, name)
        if name.startswith(("modules-", ".new-")) and name != present:
            with contextlib.suppress(OSError):
                _remove_if_unused(directory)


def _remove_if_unused(directory: str) -> None:
    lock = os.path.join(directory, IN_USE)
    whole = os.path.exists(lock)
    age = time.time() - os.lstat(lock if whole else directory).st_mtime
    if age < (_UNUSED if whole else _UNFINISHED):
        return
    with contextlib.ExitStack() as held:
        if whole:
            descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            held.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory)
