"""Words of a shell-style file as values: quotes, escapes and expansions are told apart; runs nothing, reads no file."""

import re
from typing import NamedTuple

from cvfs.errors import UsageError

ADVICE = "configuration is read without a shell: use assignments, if, case, [ ], && and ||"
_ENDS_A_WORD = " \t\r\n;&|()<>"
_ESCAPED_IN_QUOTES = '$`"\\\n'
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-]")
_OPERATOR = re.compile(r":?[-+]")
_DEEPEST = 20


class PlacedError(UsageError):
    """One whose message begins with the file and the line."""

    @classmethod
    def at(cls, where: str, line: int, message: object) -> "PlacedError":
        """The error of that line."""
        return cls(f"{where}:{line}: {message}")


class Text(NamedTuple):
    """Characters that stand for themselves; unquoted ones may be part of a key word."""

    text: str
    quoted: bool


class Variable(NamedTuple):
    """`$name`, or with an operator `${name:-alternative}`."""

    name: str
    operator: str
    alternative: "Word"
    quoted: bool


class Arithmetic(NamedTuple):
    """`$((expression))`."""

    expression: "Word"
    quoted: bool


class Substitution(NamedTuple):
    """A command whose output is asked for. It is never run: expanding it is an error."""

    text: str


Part = Text | Variable | Arithmetic | Substitution
Word = tuple[Part, ...]


class Source:
    """The text of a file, with a position that knows its line."""

    def __init__(self, text: str, where: str, line: int = 1, depth: int = 0) -> None:
        self.where = where
        self.line = line
        self.depth = depth
        self._text = text
        self._at = 0

    def peek(self) -> str:
        """The next character, "" at the end."""
        return self._text[self._at : self._at + 1]

    def starts(self, text: str) -> bool:
        """Whether that comes next."""
        return self._text.startswith(text, self._at)

    def match(self, pattern: re.Pattern[str]) -> str:
        """What the pattern takes from here, "" if nothing."""
        found = pattern.match(self._text, self._at)
        return self.take(len(found[0])) if found else ""

    def take(self, count: int = 1) -> str:
        """The next characters; the position moves on."""
        taken = self._text[self._at : self._at + count]
        self._at += count
        self.line += taken.count("\n")
        return taken

    def take_through(self, end: str) -> str:
        """Everything before `end`, which is passed. Raises UsageError if it never comes."""
        found = self._text.find(end, self._at)
        if found < 0:
            raise self.error(f"{end} is missing")
        taken = self.take(found - self._at)
        self.take(len(end))
        return taken

    def take_parenthesis(self) -> str:
        """What stands between here and the parenthesis that closes."""
        depth, end = 1, self._at
        while depth and end < len(self._text):
            depth += {"(": 1, ")": -1}.get(self._text[end], 0)
            end += 1
        if depth:
            raise self.error(") is missing")
        taken = self.take(end - 1 - self._at)
        self.take()
        return taken

    def inner(self, text: str) -> "Source":
        """A part of this text, to be read by itself."""
        return Source(text, self.where, self.line, self.depth + 1)

    def error(self, message: str) -> PlacedError:
        """One line that names file and line."""
        return PlacedError.at(self.where, self.line, message)


def read_word(source: Source) -> Word:
    """The word that begins here; empty if none does. Raises UsageError."""
    return _parts(source, _ENDS_A_WORD, quoted=False)


def plain_text(word: Word) -> str | None:
    """A word without quotes or expansions, as key words are."""
    texts = [part.text for part in word if isinstance(part, Text) and not part.quoted]
    return "".join(texts) if len(texts) == len(word) else None


def _parts(source: Source, ends: str, *, quoted: bool) -> Word:
    if source.depth > _DEEPEST:
        raise source.error("nested too deeply")
    parts: list[Part] = []
    while source.peek() and source.peek() not in ends:
        parts += _next_parts(source, ends, quoted=quoted)
    return tuple(parts)


def _next_parts(source: Source, ends: str, *, quoted: bool) -> Word:
    next_one = source.peek()
    if next_one == "$":
        return (_dollar(source, quoted=quoted),)
    if next_one == "`":
        source.take()
        return (Substitution(source.take_through("`")),)
    if next_one == "\\":
        return _escaped(source, quoted=quoted)
    # In "${name:-"alternative"}" the inner quotes are quotes, too.
    quotes = "'\"" if not quoted else '"' if ends == "}" else ""
    if next_one in quotes:
        return _quoted(source)
    special = f"$`\\{quotes}"
    return (Text(source.match(re.compile(f"[^{re.escape(special + ends)}]+")), quoted),)


def _quoted(source: Source) -> Word:
    quote = source.take()
    # An empty part remembers that there were quotes: "" is a word, nothing is none.
    if quote == "'":
        return (Text(source.take_through("'"), quoted=True),)
    parts = _parts(source, '"', quoted=True)
    if source.take() != '"':
        raise source.error('" is missing')
    return (Text("", quoted=True), *parts)


def _escaped(source: Source, *, quoted: bool) -> Word:
    source.take()
    following = source.peek()
    if following == "\n":
        source.take()
        return ()
    if quoted and following not in _ESCAPED_IN_QUOTES:
        return (Text("\\", quoted),)
    return (Text(source.take() or "\\", quoted=True),)


def _dollar(source: Source, *, quoted: bool) -> Part:
    source.take()
    if source.starts("(("):
        source.take(2)
        expression = source.take_through("))")
        return Arithmetic(_parts(source.inner(expression), "", quoted=True), quoted)
    if source.starts("("):
        source.take()
        return Substitution(source.take_parenthesis())
    if source.starts("{"):
        return _braced(source, quoted=quoted)
    name = source.match(_NAME)
    return Variable(name, "", (), quoted) if name else Text("$", quoted)


def _braced(source: Source, *, quoted: bool) -> Part:
    source.take()
    name = source.match(_NAME)
    operator = source.match(_OPERATOR)
    source.depth += 1
    alternative = _parts(source, "}", quoted=quoted) if operator else ()
    source.depth -= 1
    if not name or source.take() != "}":
        raise source.error(f"an expansion that is not understood; {ADVICE}")
    return Variable(name, operator, alternative, quoted)
