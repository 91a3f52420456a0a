"""Carries out the commands of configuration files on the values of names; starts no program, writes nothing.

What the original hands to a shell is interpreted here: assignments, conditions, other files. Values that the environment or
the command line fixed are not changed by any file.
"""

import fnmatch
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from cvfs.client.settings.conditions import found_in_file, holds
from cvfs.client.settings.expansion import expanded, fields
from cvfs.client.settings.grammar import (
    Assignment,
    Block,
    Case,
    Chain,
    Command,
    If,
    Not,
    Simple,
    assignment_of,
    parse_script,
)
from cvfs.client.settings.places import Places
from cvfs.client.settings.words import ADVICE, PlacedError, Word
from cvfs.errors import UsageError

_DEEPEST_SOURCE = 10
_MOST_FILES = 1000
_WITHOUT_EFFECT = frozenset(("echo", "printf", "logger", "set", "umask"))


class Value(NamedTuple):
    """A value and where it was given: a file and its line, or line 0 of something that is no file."""

    text: str
    file: str
    line: int


class _ReturnError(Exception):
    """The rest of the file is left out."""


class Script:
    """The values of names while one file after the other is carried out. Not safe for several threads."""

    def __init__(self, places: Places, fixed: Mapping[str, Value], environment: Mapping[str, str]) -> None:
        self.values: dict[str, Value] = {}
        self.warnings: list[str] = []
        self.places = places
        self._fixed = fixed
        self._environment = environment
        self._protected: set[str] = set()
        self._file = ""
        self._directory = ""
        self._depth = 0
        self._files = 0

    def lookup(self, name: str) -> str | None:
        """The value of a name as files see it."""
        if name == "$":
            return str(os.getpid())
        for known in (self._fixed, self.values):
            if name in known:
                return known[name].text
        return self._environment.get(name)

    def protect(self, name: str) -> None:
        """No file changes it from here on."""
        self._protected.add(name)

    def run_file(self, path: str) -> None:
        """Carry out a file; one that does not exist is left out. Raises UsageError naming file and line."""
        text = self.places.read(path)
        if text is None:
            return
        self._directory = os.path.dirname(path)
        self.run(text, path)

    def run_forgiving(self, path: str) -> None:
        """Carry out a file of somebody else: one that is not understood counts as a whole as not there, with a warning."""
        before = dict(self.values)
        try:
            self.run_file(path)
        except UsageError as error:
            self.values = before
            self.warnings.append(f"{error}; the file is left out")

    def run(self, text: str, where: str) -> None:
        """Carry out a text. Raises UsageError naming file and line."""
        with self._inside(where):
            self._block(parse_script(text, where))

    @contextmanager
    def _inside(self, where: str) -> Iterator[None]:
        outer, self._file = self._file, where
        self._depth += 1
        self._files += 1
        try:
            if self._depth > _DEEPEST_SOURCE or self._files > _MOST_FILES:
                raise UsageError(f"{outer or where}: files that include each other without end")
            yield
        except _ReturnError:
            pass
        finally:
            self._file = outer
            self._depth -= 1

    def _block(self, block: Block) -> bool:
        succeeded = True
        for command in block:
            succeeded = self._command(command)
        return succeeded

    def _command(self, command: Command) -> bool:
        match command:
            case Simple():
                return self._simple(command)
            case Not():
                return not self._command(command.command)
            case Chain():
                return self._chain(command)
            case If():
                return self._if(command)
            case Case():
                return self._case(command)

    def _chain(self, chain: Chain) -> bool:
        succeeded = self._command(chain.first)
        for operator, command in chain.rest:
            if succeeded == (operator == "&&"):
                succeeded = self._command(command)
        return succeeded

    def _if(self, command: If) -> bool:
        for condition, body in command.branches:
            if self._block(condition):
                return self._block(body)
        return self._block(command.otherwise)

    @contextmanager
    def _at(self, line: int) -> Iterator[None]:
        """What goes wrong inside is told with its place, once."""
        try:
            yield
        except PlacedError:
            raise
        except UsageError as error:
            raise PlacedError.at(self._file, line, error) from error

    def _case(self, command: Case) -> bool:
        with self._at(command.line):
            subject = expanded(command.subject, self.lookup)
            fitting = (body for patterns, body in command.arms if self._fits(subject, patterns))
            body = next(fitting, ())
        return self._block(body)

    def _fits(self, subject: str, patterns: tuple[Word, ...]) -> bool:
        return any(fnmatch.fnmatchcase(subject, expanded(pattern, self.lookup)) for pattern in patterns)

    def _simple(self, command: Simple) -> bool:
        with self._at(command.line):
            if command.words:
                return self._builtin(command.words, command.line)
            for assignment in command.assignments:
                self._assign(assignment)
            return True

    def _assign(self, assignment: Assignment) -> None:
        name = assignment.name
        text = expanded(assignment.value, self.lookup)
        if name in self._fixed:
            return
        if name in self._protected and text != self.lookup(name):
            self.warnings.append(f"{self._file}:{assignment.line}: {name} cannot be changed here; {text!r} is left out")
            return
        self.values[name] = Value(text, self._file, assignment.line)

    def _builtin(self, words: tuple[Word, ...], line: int) -> bool:
        name, *arguments = [field for word in words for field in fields(word, self.lookup)] or [":"]
        if name in ("[", "test"):
            return self._test(name, arguments, line)
        if name in ("export", "readonly"):
            return self._declare(words[1:], line)
        if name in (".", "source"):
            return self._source(arguments)
        if name in ("return", "exit"):
            raise _ReturnError
        return self._small(name, arguments)

    def _small(self, name: str, arguments: list[str]) -> bool:
        if name in (":", "true", "false"):
            return name != "false"
        if name in _WITHOUT_EFFECT:
            return True
        if name == "grep":
            return found_in_file(arguments, lambda path: self.places.read(self._place(path)))
        if name == "unset":
            for variable in arguments:
                self.values.pop(variable, None)
            return True
        raise UsageError(f"{name[:60]!r} is not understood; {ADVICE}")

    def _test(self, name: str, arguments: list[str], line: int) -> bool:
        if name == "[" and arguments[-1:] != ["]"]:
            raise UsageError("] is missing")
        try:
            return holds(arguments[:-1] if name == "[" else arguments, self._place)
        except UsageError as error:
            # As in a shell, where an unquoted variable that is empty makes a test without a meaning, and it is false.
            self.warnings.append(f"{self._file}:{line}: {error}; taken as false")
            return False

    def _declare(self, words: tuple[Word, ...], line: int) -> bool:
        for word in words:
            assignment = assignment_of(word, line)
            if assignment:
                self._assign(assignment)
        return True

    def _source(self, arguments: list[str]) -> bool:
        if not arguments:
            raise UsageError("the name of a file is missing")
        path = self.places.included(self._place(arguments[0]), arguments[0])
        text = self.places.read(path)
        if text is None:
            self.warnings.append(f"{self._file}: {arguments[0]} does not exist; it is left out")
            return False
        self.run(text, path)
        return True

    def _place(self, name: str) -> str:
        return self.places.here(os.path.join(self._directory, name))
