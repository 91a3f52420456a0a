"""How every command runs: failures become one line and an exit status, never a traceback for a user's mistake."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from cvfs.errors import CvfsError
from cvfs_tools.completing import make_complete, make_offers

_LONGEST_SENTENCE = 400


class Group(click.Group):
    """Commands by verb; merged short flags parse as users of CernVM-FS write them."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb, with errors made plain."""
        with plain_errors(ctx.info_name or "cvfs"):
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each verb with the whole first sentence of its help text, where click would cut it off."""
        verbs = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = [(name, verb.get_short_help_str(_LONGEST_SENTENCE)) for name, verb in verbs if verb and not verb.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class Verbs(Group):
    """Commands that are imported when they are asked for: each verb starts as fast as its own modules.

    `verbs` are their names and where they are: `module.function`, the module being one of this package.
    """

    def __init__(self, *arguments: Any, verbs: Mapping[str, str], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.verbs = verbs

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in order."""
        del ctx
        return sorted(self.verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb, None for a name that means nothing."""
        place = self.verbs.get(cmd_name)
        if place is None:
            return None
        module, _, function = place.rpartition(".")
        command: click.Command = getattr(import_module(f"cvfs_tools.{module}"), function)
        # A shell asks what a parameter can be.
        return make_complete(command) if ctx.resilient_parsing else command

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its own options; a shell asks what they can be, too."""
        found = super().get_params(ctx)
        if ctx.resilient_parsing:
            make_offers(found)
        return found

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names only: for their help texts all verbs would be imported, at each press of a key."""
        names = [CompletionItem(name) for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)


@contextlib.contextmanager
def plain_errors(program: str) -> Iterator[None]:
    """One line on stderr and the exit status of the error's class."""
    _occupy_standard_descriptors()
    try:
        yield
    except CvfsError as error:
        print(f"{program}: {one_line(str(error))}", file=sys.stderr)
        sys.exit(error.exit_status)
    except BrokenPipeError:
        # The reader of a pipe went away, as `head` does.
        _drop_output()
        sys.exit(141)
    except OSError as error:
        place = error.filename2 or error.filename
        where = f"{os.fsdecode(place)}: " if isinstance(place, str | bytes) else ""
        print(f"{program}: {one_line(where + (error.strerror or str(error)))}", file=sys.stderr)
        _drop_output()
        sys.exit(1)


def _drop_output() -> None:
    """What could not be written would be tried again, and complained about, at the interpreter's end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _occupy_standard_descriptors() -> None:
    """What the caller closed would be taken by the next files that are opened: the kernel's device, an object.

    Standard output becomes a place that cannot be written: the loss of what was asked for is an error.
    """
    for descriptor, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number, so this one. Children have it too.
            os.set_inheritable(os.open(os.devnull, flags), True)
    # Python leaves None where a descriptor was closed.
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def one_line(text: str) -> str:
    """A message without line breaks or other control characters that came from a hostile name."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def shown(name: bytes) -> str:
    """A raw name on a terminal or in a pipe: bytes that are no UTF-8 survive as surrogate escapes."""
    return os.fsdecode(name)


def write_line(text: str) -> None:
    """A line on standard output, any byte allowed; a terminal gets no control characters out of a hostile name."""
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(one_line(text) if sys.stdout.isatty() else text) + b"\n")
    # Here a reader that went away is an error that is known; at the interpreter's end it is not.
    sys.stdout.buffer.flush()


def start_logging(*, debug: bool = False, file: str | None = None) -> None:
    """Messages to a file, or to stderr."""
    level = logging.DEBUG if debug else logging.WARNING
    handler = logging.FileHandler(file) if file else logging.StreamHandler()
    # Its own level: a mount's log wants more than its user at the terminal, and sets the level of all.
    handler.setLevel(level)
    logging.basicConfig(handlers=[handler], level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
