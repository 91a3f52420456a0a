"""Source trees changed at random, by everything that publishing may stumble on; a test may replay it."""

import contextlib
import os
import shutil
import stat
from random import Random


class RandomEdits:
    """Changes to a source tree, each drawn from a source of randomness that a test may replay; a dirtab is left alone.

    Directories get markers of nested catalogs; the file types, names and sizes are those that publishing may stumble on.
    """

    NAMES = (b"a", b"b", b"c", b"a b", b"\xff\xfe", b"new\nline", b"x" * 255, b"-", b"*", "\u00fc".encode(), b".cvmfs-")
    SIZES = (0, 1, 100, 4096, 4097, 20000, 60000)
    MARKER = b".cvmfscatalog"
    DIRTAB = b".cvmfsdirtab"

    def __init__(self, top: bytes, random: Random) -> None:
        self._top = top
        self._random = random

    def run(self, count: int) -> None:
        """So many changes; those that are impossible at the moment do nothing."""
        changes = [self._file, self._file, self._directory, self._directory, self._link, self._hard_link, self._fifo]
        changes += [self._remove, self._change, self._mode, self._owner, self._time, self._attribute, self._move]
        changes += [self._mark, self._mark, self._unmark, self._swap]
        for _ in range(count):
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                self._random.choice(changes)()

    def _entries(self, *, directories: bool) -> list[bytes]:
        found = [self._top] if directories else []
        for where, inside, files in os.walk(self._top):
            places = [os.path.join(where, name) for name in inside + files if name != self.DIRTAB]
            found += [place for place in places if stat.S_ISDIR(os.lstat(place).st_mode) == directories]
        return sorted(found)

    def _any(self, *, directories: bool) -> bytes:
        entries = self._entries(directories=directories)
        if not entries:
            raise FileNotFoundError
        return self._random.choice(entries)

    def _new(self) -> bytes:
        place = os.path.join(self._any(directories=True), self._random.choice(self.NAMES))
        if len(place) > 3000:
            raise FileNotFoundError
        return place

    def _file(self) -> None:
        self._write(self._new(), os.O_EXCL)

    def _write(self, place: bytes, flag: int) -> None:
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | flag, 0o644)
        with open(descriptor, "wb") as file:
            file.write(self._random.randbytes(self._random.choice(self.SIZES)))

    def _directory(self) -> None:
        os.mkdir(self._new())

    def _link(self) -> None:
        os.symlink(self._random.choice((b"a", b"../b", b"/nowhere", b"$X", b"\xff" * 1000)), self._new())

    def _hard_link(self) -> None:
        os.link(self._any(directories=False), self._new(), follow_symlinks=False)

    def _fifo(self) -> None:
        os.mkfifo(self._new())

    def _remove(self) -> None:
        self._delete(self._any(directories=self._random.random() < 0.3))

    def _delete(self, place: bytes) -> None:
        if place == self._top:
            return
        if os.path.isdir(place) and not os.path.islink(place):
            shutil.rmtree(place)
        else:
            os.unlink(place)

    def _change(self) -> None:
        place = self._any(directories=False)
        if stat.S_ISREG(os.lstat(place).st_mode) and os.path.basename(place) != self.MARKER:
            self._write(place, os.O_TRUNC)

    def _mode(self) -> None:
        place = self._any(directories=self._random.random() < 0.3)
        if not os.path.islink(place):
            os.chmod(place, self._random.choice((0o755, 0o700, 0o4711, 0o1777, 0o644)))

    def _owner(self) -> None:
        place = self._any(directories=self._random.random() < 0.3)
        os.chown(place, self._random.randrange(3), self._random.randrange(3), follow_symlinks=False)

    def _time(self) -> None:
        stamp = self._random.choice((0, 1, 10**18 + 999_999_999))
        os.utime(self._any(directories=self._random.random() < 0.3), ns=(stamp, stamp), follow_symlinks=False)

    def _attribute(self) -> None:
        place = self._any(directories=self._random.random() < 0.3)
        if stat.S_IFMT(os.lstat(place).st_mode) in (stat.S_IFREG, stat.S_IFDIR):
            value = self._random.randbytes(self._random.choice((0, 1, 255)))
            os.setxattr(place, f"user.test{self._random.randrange(3)}", value)

    def _move(self) -> None:
        source = self._any(directories=self._random.random() < 0.6)
        target = self._new()
        inside = (target + b"/").startswith(source + b"/")
        if source != self._top and os.path.basename(source) != self.MARKER and not inside:
            self._delete(target) if os.path.lexists(target) else None
            os.rename(source, target)

    def _mark(self) -> None:
        place = self._any(directories=True)
        if place != self._top:
            self._write(os.path.join(place, self.MARKER), os.O_EXCL)

    def _unmark(self) -> None:
        marked = [place for place in self._entries(directories=False) if os.path.basename(place) == self.MARKER]
        if marked:
            os.unlink(self._random.choice(marked))

    def _swap(self) -> None:
        """Something else under the same name."""
        place = self._any(directories=self._random.random() < 0.5)
        if place == self._top or os.path.basename(place) == self.MARKER:
            return
        self._delete(place)
        self._random.choice((os.mkdir, os.mkfifo, lambda path: os.symlink(b"a", path), self._touch))(place)

    def _touch(self, place: bytes) -> None:
        self._write(place, os.O_EXCL)
