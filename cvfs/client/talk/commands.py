"""Command lines to actions: which words mean which command, and what follows them; no command is carried out here."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from cvfs.client.control import Answer
from cvfs.errors import UsageError

DONE = Answer("OK\n")

Action = Callable[[str], Answer | str]
"""Called with what follows the words, blanks around it removed."""


class Command(NamedTuple):
    """One command: its words, what it does, the arguments it must have (`<a>`) or may have (`[a]`), and a line of help."""

    words: str
    action: Action
    arguments: str = ""
    help: str = ""

    @property
    def needs_arguments(self) -> bool:
        """Whether it means nothing by itself."""
        return self.arguments.startswith("<")

    def run(self, rest: str) -> Answer:
        """Carry it out. Raises CvfsError."""
        if self.needs_arguments and not rest:
            return Answer(f"Usage: {self.words} {self.arguments}\n", good=False)
        answer = self.action(rest)
        return Answer(answer) if isinstance(answer, str) else answer


class Commands:
    """Commands by their words; of several that fit a line the longest is meant."""

    def __init__(self, commands: Iterable[Command]) -> None:
        self._by_words = {command.words: command for command in commands}
        self._by_words["help"] = Command("help", lambda _: self.help(), help="lists the commands")

    def respond(self, line: str) -> Answer:
        """The answer to a command line. Raises CvfsError."""
        words = line.split()
        for count in range(len(words), 0, -1):
            command = self._by_words.get(" ".join(words[:count]))
            if command and (command.arguments or count == len(words)):
                # Blanks inside of a path count.
                return command.run("".join(line.split(maxsplit=count)[count:]).strip())
        return Answer("unknown command\n", good=False) if words else self.help()

    def help(self) -> Answer:
        """Every command in a line."""
        known = sorted(self._by_words.values())
        lines = [f"  {f'{command.words} {command.arguments}'.strip():<36} {command.help}".rstrip() for command in known]
        return Answer("\n".join(["Commands:", *lines, ""]), data=[command.words for command in known])


def number(text: str, unit: str, least: int = 0) -> int:
    """A decimal argument. Raises UsageError naming what is needed."""
    if not text.isdecimal() or int(text) < least or len(text) > 15:
        raise UsageError(f"{text!r}: a number of {unit} from {least} on is needed")
    return int(text)
