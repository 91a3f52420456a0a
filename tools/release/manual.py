"""Manual pages out of the help texts: what a command says of itself, in the language of man(7); writes no file.

One page for each program and for each verb; the verbs of a verb are on its page.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import click

from cvfs import __version__
from cvfs.errors import Conflict, CvfsError, FormatError, Locked, MountError, PathError, StoreError, TrustError

_STATUSES = (
    (0, "Done."),
    (
        CvfsError.exit_status,
        "It failed, as one line on standard error says; what else this means is on a verb's own page.",
    ),
    (PathError.exit_status, "The command line, a path, a name, a parameter or a state is at fault."),
    (Locked.exit_status, "Somebody else holds the repository."),
    (Conflict.exit_status, "Somebody else published something different at the same paths."),
    (FormatError.exit_status, "Bytes do not follow the format of repositories."),
    (TrustError.exit_status, "A signature, a hash, a name or a date does not fit: refused."),
    (StoreError.exit_status, "Something could not be fetched, or not be kept."),
    (MountError.exit_status, "The kernel, or fusermount3, refused."),
)
_STATUSES_OF_MOUNT = (
    (0, "Mounted."),
    (1, "The command line, or the configuration, makes no sense."),
    (32, "It could not be mounted."),
)
_CLIENT_FILES = (
    ("/etc/cvmfs", "The configuration: default.local and what else is there; another place with --etc or CVFS_ETC."),
    ("/cvmfs", "Where repositories are mounted, unless CVMFS_MOUNT_DIR says otherwise."),
    ("/var/lib/cvmfs", "The caches, unless CVMFS_CACHE_BASE says otherwise; ~/.cache/cvfs of who may not write there."),
)
_SERVER_FILES = (
    ("/etc/cvmfs/repositories.d", "The configuration of each repository that is published here."),
    ("/etc/cvmfs/keys", "The keys; all but those ending in .pub and .crt are secret."),
    ("/srv/cvmfs", "The repositories as web servers show them."),
    ("/var/spool/cvmfs", "What is being published."),
)


@dataclass(frozen=True, slots=True)
class Program:
    """A program, the section of the manual it is in, and what its page says at the end."""

    name: str
    command: click.Command
    section: int
    files: tuple[tuple[str, str], ...]
    related: tuple[str, ...]
    statuses: tuple[tuple[int, str], ...] = _STATUSES


def programs() -> tuple[Program, ...]:
    """All that are installed."""
    from cvfs_tools import cvfs_command, mount_helper, server_command  # noqa: PLC0415 - all verbs come with them

    return (
        Program("cvfs", cvfs_command.main, 1, _CLIENT_FILES, ("cvfs-server(1)", "mount.cvfs(8)", "fusermount3(1)")),
        Program("cvfs-server", server_command.main, 1, _SERVER_FILES, ("cvfs(1)",)),
        Program("mount.cvfs", mount_helper.main, 8, _CLIENT_FILES, ("cvfs(1)", "mount(8)"), _STATUSES_OF_MOUNT),
    )


def pages(program: Program, date: str = "") -> Iterator[tuple[str, str]]:
    """The file name and the text of each page of a program; `date` is what they are dated."""
    context = click.Context(program.command, info_name=program.name, **program.command.context_settings)
    verbs = _verbs(program.command, context)
    titles = [f"{program.name}-{verb.info_name}" for verb in verbs]
    above = f"{program.name}({program.section})"
    yield _file(program, program.name, context, [f"{title}({program.section})" for title in titles], date)
    for title, verb in zip(titles, verbs, strict=True):
        yield _file(program, title, verb, [above], date)


def _file(program: Program, title: str, ctx: click.Context, others: list[str], date: str) -> tuple[str, str]:
    return f"{title}.{program.section}", "\n".join(_page(program, title, ctx, others, date)) + "\n"


def _verbs(command: click.Command, context: click.Context) -> list[click.Context]:
    """The contexts of a group's verbs, in order; none for a plain command."""
    if not isinstance(command, click.Group):
        return []
    found = ((name, command.get_command(context, name)) for name in command.list_commands(context))
    return [
        click.Context(verb, parent=context, info_name=name, **verb.context_settings)
        for name, verb in found
        if verb is not None and not verb.hidden
    ]


def _page(program: Program, title: str, ctx: click.Context, others: list[str], date: str) -> Iterator[str]:
    yield f'.TH "{_text(title.upper())}" {program.section} "{date}" "cvfs {_text(__version__)}" "cvfs"'
    yield ".SH NAME"
    yield rf"{_text(title)} \- {_text(_in_short(ctx.command))}"
    yield ".SH SYNOPSIS"
    yield _synopsis(ctx)
    yield ".SH DESCRIPTION"
    yield from _paragraphs(ctx.command.help or "")
    yield ".SH OPTIONS"
    yield from _options(ctx)
    yield from _commands(ctx)
    if ctx.parent is None:
        yield from _list("FILES", program.files)
        yield from _list("EXIT STATUS", tuple((str(status), meaning) for status, meaning in program.statuses))
    yield ".SH SEE ALSO"
    seen = (name.partition("(") for name in (*others, *program.related))
    yield ",\n".join(rf"\fB{_text(name)}\fR({section}" for name, _, section in seen)


def _in_short(command: click.Command) -> str:
    """The first sentence, without its full stop."""
    first = " ".join((command.help or "").split("\n\n")[0].split())
    return re.split(r"(?<=[a-z)>])[.:;] ", first)[0].rstrip(".")


def _synopsis(ctx: click.Context) -> str:
    words = " ".join(ctx.command.collect_usage_pieces(ctx))
    return rf"\fB{_text(ctx.command_path)}\fR {_text(words)}"


def _paragraphs(text: str) -> Iterator[str]:
    """As click shows them: a paragraph that begins with a backspace keeps its lines."""
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            yield ".PP"
        if paragraph.startswith("\b\n"):
            yield ".nf"
            yield from (_line(line) for line in paragraph[2:].split("\n"))
            yield ".fi"
        else:
            yield _line(" ".join(paragraph.split()))


def _options(ctx: click.Context) -> Iterator[str]:
    for parameter in ctx.command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        # What an argument is the description says.
        if record and isinstance(parameter, click.Option):
            yield ".TP"
            yield rf"\fB{_text(record[0])}\fR"
            yield _line(record[1].strip() or "See the description.")


def _commands(ctx: click.Context) -> Iterator[str]:
    verbs = _verbs(ctx.command, ctx)
    if verbs:
        yield ".SH COMMANDS"
    for verb in verbs:
        yield ".TP"
        if ctx.parent is None:
            yield rf"\fB{_text(str(verb.info_name))}\fR"
            yield _line(_in_short(verb.command) + ".")
        else:
            yield _synopsis(verb)
            yield ".RS"
            yield from _paragraphs(verb.command.help or "")
            yield from _options(verb)
            yield ".RE"


def _list(title: str, entries: tuple[tuple[str, str], ...]) -> Iterator[str]:
    yield f".SH {title}"
    for name, meaning in entries:
        yield ".TP"
        yield rf"\fB{_text(name)}\fR"
        yield _line(meaning)


def _line(text: str) -> str:
    """A line of text, which must not begin like a request."""
    return rf"\&{_text(text)}" if text.startswith((".", "'")) else _text(text)


def _text(text: str) -> str:
    """What stands for these characters; those beyond ASCII by their numbers, for every device."""
    text = (
        text.replace("\\", r"\e")
        .replace("-", r"\-")
        .replace("\u2026", "...")
        .replace("`", r"\(ga")
        .replace("'", r"\(aq")
    )
    return "".join(c if c.isascii() else rf"\[u{ord(c):04X}]" for c in text)
