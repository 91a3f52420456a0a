"""What the words of a shell-style file come to, given the values of names; runs nothing, reads no file."""

import ast
import operator
from collections.abc import Callable

from cvfs.client.settings.words import ADVICE, Arithmetic, Part, Substitution, Text, Variable, Word
from cvfs.errors import UsageError

LONGEST_VALUE = 65536
_LONGEST_EXPRESSION = 200
_OPERATIONS: dict[type, Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}

Lookup = Callable[[str], str | None]


def expanded(word: Word, lookup: Lookup) -> str:
    """The text of a word, as an assignment takes it. Raises UsageError without a place."""
    text = "".join(_text_of(part, lookup) for part in word)
    home = _home(word, lookup)
    text = home + text[1:] if home else text
    if len(text) > LONGEST_VALUE:
        raise UsageError(f"a value of more than {LONGEST_VALUE} characters")
    return text


def _home(word: Word, lookup: Lookup) -> str:
    """What `~/` at the beginning stands for, "" if there is none."""
    first = word[0] if word else None
    home = lookup("HOME") if isinstance(first, Text) and not first.quoted and first.text.startswith("~/") else None
    return home or ""


def fields(word: Word, lookup: Lookup) -> list[str]:
    """The arguments that a word stands for: what comes out of an unquoted expansion is split at blanks."""
    found: list[str] = []
    current: str | None = None
    for part in word:
        text = _text_of(part, lookup)
        if isinstance(part, Text) or getattr(part, "quoted", True):
            current = (current or "") + text
            continue
        pieces = text.split()
        if current is not None and (not pieces or not text[:1].isspace()):
            pieces = [current + (pieces[0] if pieces else ""), *pieces[1:]]
        elif current is not None:
            found.append(current)
        found += pieces[:-1]
        current = pieces[-1] if pieces else None
    return found if current is None else [*found, current]


def _text_of(part: Part, lookup: Lookup) -> str:
    match part:
        case Text():
            return part.text
        case Variable():
            return _value_of(part, lookup)
        case Arithmetic():
            return str(calculated(expanded(part.expression, lookup)))
        case Substitution():
            shown = part.text if len(part.text) <= 40 else part.text[:40] + "…"
            raise UsageError(f"the command {shown!r} is not run: {ADVICE}")


def _value_of(variable: Variable, lookup: Lookup) -> str:
    value = lookup(variable.name)
    given = bool(value) if variable.operator.startswith(":") else value is not None
    if variable.operator.endswith("-") and not given:
        return expanded(variable.alternative, lookup)
    if variable.operator.endswith("+"):
        return expanded(variable.alternative, lookup) if given else ""
    return value or ""


def calculated(expression: str) -> int:
    """The value of whole numbers joined by + - * / % and parentheses. Raises UsageError."""
    try:
        tree = ast.parse(expression[: _LONGEST_EXPRESSION + 1].strip().replace("/", "//") or "0", mode="eval")
        return _calculated(tree.body if len(expression) <= _LONGEST_EXPRESSION else tree)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError) as error:
        raise UsageError(f"$(({expression[:40]})) is not understood: whole numbers and + - * / % ( ) are") from error


def _calculated(node: ast.AST) -> int:
    match node:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return value
        case ast.UnaryOp(op=ast.USub()):
            return -_calculated(node.operand)
        case ast.BinOp() if type(node.op) in _OPERATIONS:
            return _OPERATIONS[type(node.op)](_calculated(node.left), _calculated(node.right))
    raise ValueError
