"""The commands of a shell-style file as a tree of values; runs nothing, reads no file."""

import re
from typing import NamedTuple

from cvfs.client.settings.words import ADVICE, PlacedError, Source, Text, Word, plain_text, read_word

_OPERATORS = (";;", "&&", "||", ";", "\n", "&", "|", "(", ")")
_BLANK = re.compile(r"(?:[ \t\r]|\\\r?\n)+")
_COMMENT = re.compile(r"#[^\n]*")
_REDIRECTION = re.compile(r"[0-9]*(?:>>|>&|>|<)[ \t]*")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_KEY_WORDS = frozenset(("if", "then", "elif", "else", "fi", "case", "esac", "in", "!"))
_NOT_UNDERSTOOD = frozenset(("for", "while", "until", "select", "function", "do", "done", "{", "}", "[["))
_DEEPEST = 30


class Assignment(NamedTuple):
    """`name=value`."""

    name: str
    value: Word
    line: int


class Simple(NamedTuple):
    """Assignments, or the words of a command."""

    assignments: tuple[Assignment, ...]
    words: tuple[Word, ...]
    line: int


class Not(NamedTuple):
    """The opposite outcome."""

    command: "Command"


class Chain(NamedTuple):
    """Commands joined by `&&` and `||`, which bind alike, from left to right."""

    first: "Command"
    rest: tuple[tuple[str, "Command"], ...]


class If(NamedTuple):
    """Conditions with what to do, and what to do otherwise."""

    branches: tuple[tuple["Block", "Block"], ...]
    otherwise: "Block"


class Case(NamedTuple):
    """A word, and patterns with what to do for the first that fits."""

    subject: Word
    arms: tuple[tuple[tuple[Word, ...], "Block"], ...]
    line: int


Command = Simple | Not | Chain | If | Case
Block = tuple[Command, ...]


class _Token(NamedTuple):
    """A word, or an operator (then `word` is empty); at the end neither."""

    operator: str
    word: Word
    line: int

    @property
    def key_word(self) -> str:
        text = plain_text(self.word) or ""
        return text if text in _KEY_WORDS | _NOT_UNDERSTOOD else ""


def parse_script(text: str, where: str) -> Block:
    """The commands of a file. Raises UsageError naming file and line."""
    parser = _Parser(_tokens(Source(text, where)), where)
    return parser.whole()


def assignment_of(word: Word, line: int) -> Assignment | None:
    """The assignment that a word is."""
    first = word[0] if word else None
    if not isinstance(first, Text) or first.quoted:
        return None
    found = _ASSIGNMENT.match(first.text)
    if not found:
        return None
    rest = Text(first.text[found.end() :], quoted=False)
    return Assignment(found[0][:-1], (*((rest,) if rest.text else ()), *word[1:]), line)


def _tokens(source: Source) -> list[_Token]:
    tokens = []
    while True:
        source.match(_BLANK)
        source.match(_COMMENT)
        if not source.peek():
            tokens.append(_Token("", (), source.line))
            return tokens
        if redirection := source.match(_REDIRECTION):
            _drop_target(source, redirection)
        else:
            tokens.append(_token(source))


def _token(source: Source) -> _Token:
    line = source.line
    for operator in _OPERATORS:
        if source.starts(operator):
            source.take(len(operator))
            return _Token(operator, (), line)
    return _Token("", read_word(source), line)


def _drop_target(source: Source, redirection: str) -> None:
    """Output that goes nowhere may go there; nothing is ever written."""
    target = plain_text(read_word(source)) or ""
    into_nothing = target == "/dev/null" or (redirection.strip().endswith("&") and target.isdigit())
    if not into_nothing or "<" in redirection:
        raise source.error(f"only >/dev/null is understood; {ADVICE}")


class _Parser:
    """Descends through the tokens; every method takes what it names. Raises UsageError."""

    def __init__(self, tokens: list[_Token], where: str) -> None:
        self._tokens = tokens
        self._where = where
        self._at = 0
        self._depth = 0

    def whole(self) -> Block:
        block = self._block(frozenset())
        if self._next.operator or self._next.word:
            raise self._error()
        return block

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._next
        # The end stays: whoever takes it finds it again.
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def _error(self) -> PlacedError:
        token = self._next
        shown = token.operator or plain_text(token.word) or "this"
        at_end = not token.operator and not token.word
        message = "the file ends too early" if at_end else f"{shown!r} is not understood here"
        return PlacedError.at(self._where, token.line, f"{message}; {ADVICE}")

    def _expect(self, key_word: str) -> None:
        if self._next.key_word != key_word:
            raise self._error()
        self._take()

    def _skip(self, operators: tuple[str, ...]) -> bool:
        start = self._at
        while self._next.operator in operators and self._next.operator:
            self._take()
        return self._at > start

    def _block(self, stops: frozenset[str]) -> Block:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise PlacedError.at(self._where, self._next.line, "nested too deeply")
        commands = []
        self._skip(("\n", ";"))
        while self._next.word and self._next.key_word not in stops:
            commands.append(self._chain())
            if not self._skip(("\n", ";")):
                break
        self._depth -= 1
        return tuple(commands)

    def _chain(self) -> Command:
        first = self._command()
        rest = []
        while self._next.operator in ("&&", "||"):
            operator = self._take().operator
            self._skip(("\n",))
            rest.append((operator, self._command()))
        return Chain(first, tuple(rest)) if rest else first

    def _command(self) -> Command:
        key_word = self._next.key_word
        if not key_word:
            return self._simple()
        if key_word == "!":
            self._take()
            return Not(self._command())
        if key_word == "if":
            return self._if()
        if key_word == "case":
            return self._case()
        raise self._error()

    def _simple(self) -> Simple:
        line = self._next.line
        assignments: list[Assignment] = []
        words: list[Word] = []
        while self._next.word:
            token = self._take()
            assignment = None if words else assignment_of(token.word, token.line)
            if assignment:
                assignments.append(assignment)
            else:
                words.append(token.word)
        if not assignments and not words:
            raise self._error()
        return Simple(tuple(assignments), tuple(words), line)

    def _if(self) -> If:
        branches = []
        otherwise: Block = ()
        self._expect("if")
        branches.append(self._branch())
        while self._next.key_word == "elif":
            self._take()
            branches.append(self._branch())
        if self._next.key_word == "else":
            self._take()
            otherwise = self._block(frozenset(("fi",)))
        self._expect("fi")
        return If(tuple(branches), otherwise)

    def _branch(self) -> tuple[Block, Block]:
        condition = self._block(frozenset(("then",)))
        if not condition:
            raise self._error()
        self._expect("then")
        return condition, self._block(frozenset(("elif", "else", "fi")))

    def _case(self) -> Case:
        line = self._next.line
        self._expect("case")
        subject = self._take().word
        self._skip(("\n",))
        self._expect("in")
        arms = []
        self._skip(("\n",))
        while self._next.key_word != "esac":
            arms.append(self._arm())
        self._expect("esac")
        return Case(subject, tuple(arms), line)

    def _arm(self) -> tuple[tuple[Word, ...], Block]:
        self._skip(("(",))
        patterns = [self._pattern()]
        while self._next.operator == "|":
            self._take()
            patterns.append(self._pattern())
        if self._next.operator != ")":
            raise self._error()
        self._take()
        body = self._block(frozenset(("esac",)))
        if not self._skip((";;", "\n")) and self._next.key_word != "esac":
            raise self._error()
        return tuple(patterns), body

    def _pattern(self) -> Word:
        if not self._next.word:
            raise self._error()
        return self._take().word
