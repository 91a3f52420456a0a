"""The conditions of a shell-style file: `[ … ]` and `grep -q`; asks about files, changes nothing."""

import os
import re
from collections.abc import Callable

from cvfs.errors import UsageError

_LONGEST_LINE = 1024
_TEXTS: dict[str, Callable[[str, str], bool]] = {
    "=": lambda left, right: left == right,
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
}
_NUMBERS: dict[str, Callable[[int, int], bool]] = {
    "-eq": lambda left, right: left == right,
    "-ne": lambda left, right: left != right,
    "-lt": lambda left, right: left < right,
    "-le": lambda left, right: left <= right,
    "-gt": lambda left, right: left > right,
    "-ge": lambda left, right: left >= right,
}
_FILES: dict[str, Callable[[str], bool]] = {
    "-f": os.path.isfile,
    "-d": os.path.isdir,
    "-e": os.path.exists,
    "-L": os.path.islink,
    "-h": os.path.islink,
    "-r": lambda path: os.access(path, os.R_OK),
    "-w": lambda path: os.access(path, os.W_OK),
    "-x": lambda path: os.access(path, os.X_OK),
    "-s": lambda path: os.path.isfile(path) and os.path.getsize(path) > 0,
}

Place = Callable[[str], str]
Read = Callable[[str], str | None]


def holds(arguments: list[str], place: Place) -> bool:
    """Whether `[ arguments ]` is true; `place` says where a named file lies. Raises UsageError if it has no meaning."""
    test = _Test(arguments, place)
    outcome = test.either() if arguments else False
    if test.left:
        raise UsageError(f"[ {' '.join(arguments)} ] has no meaning")
    return outcome


class _Test:
    """Takes the arguments of one test from left to right."""

    def __init__(self, arguments: list[str], place: Place) -> None:
        self.left = list(arguments)
        self._all = arguments
        self._place = place

    def either(self) -> bool:
        outcome = self._both()
        while self.left[:1] == ["-o"]:
            self._take()
            outcome = self._both() or outcome
        return outcome

    def _both(self) -> bool:
        outcome = self._one()
        while self.left[:1] == ["-a"]:
            self._take()
            outcome = self._one() and outcome
        return outcome

    def _one(self) -> bool:
        if len(self.left) >= 3 and self.left[1] in (*_TEXTS, *_NUMBERS):
            return self._compared(self._take(), self._take(), self._take())
        if self.left[:1] == ["!"] and len(self.left) > 1:
            self._take()
            return not self._one()
        if len(self.left) >= 2 and self.left[0] in ("-n", "-z", *_FILES):
            return self._asked(self._take(), self._take())
        return bool(self._take())

    def _take(self) -> str:
        if not self.left:
            raise UsageError(f"[ {' '.join(self._all)} ] has no meaning")
        return self.left.pop(0)

    @staticmethod
    def _compared(left: str, by: str, right: str) -> bool:
        if by in _TEXTS:
            return _TEXTS[by](left, right)
        try:
            return _NUMBERS[by](int(left), int(right))
        except ValueError as error:
            raise UsageError(f"[ {left} {by} {right} ] compares what is no number") from error

    def _asked(self, question: str, about: str) -> bool:
        if question in ("-n", "-z"):
            return bool(about) == (question == "-n")
        return _FILES[question](self._place(about))


def found_in_file(arguments: list[str], read: Read) -> bool:
    """Whether `grep arguments` finds a line in a file, given by its name to `read`. Raises UsageError.

    Its output is nobody's: a file is searched, nothing is shown.
    """
    letters = "".join(word[1:] for word in arguments if word.startswith("-"))
    words = [word for word in arguments if not word.startswith("-")]
    if len(words) != 2 or set(letters) - set("qsEFiwx"):
        raise UsageError("grep is understood as grep [-qsEFiwx] PATTERN FILE")
    pattern = _pattern(words[0], letters)
    return any(pattern.search(line[:_LONGEST_LINE]) for line in (read(words[1]) or "").splitlines())


def _pattern(text: str, letters: str) -> re.Pattern[str]:
    if "F" in letters:
        text = re.escape(text)
    elif "E" not in letters:
        # In a basic expression the operators are the escaped ones.
        text = re.sub(r"\\?[|(){}+?]", lambda found: found[0][1:] if found[0][0] == "\\" else "\\" + found[0], text)
    text = rf"\b(?:{text})\b" if "w" in letters else text
    text = rf"^(?:{text})$" if "x" in letters else text
    try:
        return re.compile(text, re.IGNORECASE if "i" in letters else 0)
    except re.error as error:
        raise UsageError(f"grep: the pattern {text!r} is not understood: {error}") from error
