"""Completion of command lines: the verb `completion`, and what a shell is offered in place of each word; it changes nothing.

What a parameter takes is told by its name and by what its help text calls its value, so that a new verb completes by itself.
Nothing is asked of the network, nor of a mount; what cannot be found out is not offered.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from cvfs.errors import CvfsError

SHELLS = ("bash", "zsh", "fish")

Offer = Callable[[click.Context], Iterable[str]]


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes a SHELL complete verbs, options, repositories and mount points.

    For one session: eval "$(cvfs completion bash)"; cvfs-server has its own. To keep it, write it to
    ~/.local/share/bash-completion/completions/cvfs, to ~/.config/fish/completions/cvfs.fish, or as _cvfs to a directory of
    zsh's fpath. What pip installs below share/ has it already.
    """
    program = ctx.find_root()
    click.echo(script(program.command, program.info_name or "cvfs", shell), nl=False)


def script(command: click.Command, program: str, shell: str) -> str:
    """The completion script of a program. Raises KeyError for a shell that is not one of SHELLS."""
    if shell not in SHELLS:
        raise KeyError(shell)
    shells_class = get_completion_class(shell)
    assert shells_class is not None
    variable = f"_{program}_COMPLETE".replace("-", "_").upper()
    made = shells_class(command, {}, program, variable)
    return made.source_template % made.source_vars()


def make_complete(command: click.Command) -> click.Command:
    """Give every parameter of a verb, and of the verbs below it, something to offer."""
    make_offers(command.params)
    if isinstance(command, click.Group):
        for below in command.commands.values():
            make_complete(below)
    return command


def make_offers(parameters: Iterable[click.Parameter]) -> None:
    """Give those that take any text something to offer."""
    for parameter in parameters:
        if parameter.type is click.STRING:
            parameter.type = _Offered(_metavar_of(parameter), _OFFERS.get(parameter.name or ""))


class _Offered(click.types.StringParamType):
    """Any text; a shell is offered the names that fit, or to complete it as a path."""

    def __init__(self, metavar: str, offer: Offer | None) -> None:
        self._path = {"FILE": "file", "DIR": "dir"}.get(metavar, "")
        self._offer = offer

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """What begins with `incomplete`."""
        del param
        if self._path:
            return [CompletionItem(incomplete, type=self._path)]
        if self._offer is None:
            return []
        try:
            names = sorted(set(self._offer(ctx)))
        except (CvfsError, OSError):
            # A broken configuration is told by the command, not by a key.
            return []
        found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return found or ([CompletionItem(incomplete, type="dir")] if incomplete.startswith(("/", ".")) else [])


def _metavar_of(parameter: click.Parameter) -> str:
    return "DIR" if parameter.name == "mountpoint" else parameter.metavar or ""


def _repositories(ctx: click.Context) -> Iterable[str]:
    """What is mounted or configured; for the publisher, what it publishes."""
    if ctx.find_root().info_name == "cvfs-server":
        return _published(ctx)
    return {*(fqrn for fqrn, _ in _mounts()), *_configured(ctx)}


def _mounted(ctx: click.Context) -> Iterable[str]:
    """Names and places of what is mounted; for the publisher, what it publishes."""
    if ctx.find_root().info_name == "cvfs-server":
        return _published(ctx)
    return {word for mount in _mounts() for word in mount}


def _mounts() -> Iterable[tuple[str, str]]:
    from cvfs_tools.mounts import running_mounts  # noqa: PLC0415 - each key is a process: it imports what it needs

    return [(mount.fqrn, mount.mountpoint) for mount in running_mounts()]


def _configured(ctx: click.Context) -> Iterable[str]:
    from cvfs.client.configuration_sources import Sources  # noqa: PLC0415

    named = ctx.params.get("etc") or ctx.find_root().params.get("etc")
    return Sources(etc=named).common().repositories()


def _published(ctx: click.Context) -> Iterable[str]:
    from cvfs_server.settings import configured_repositories  # noqa: PLC0415

    return configured_repositories(_site(ctx))


def _tags(ctx: click.Context) -> Iterable[str]:
    """Of a repository of this machine, in its own storage, that is named on the line or is the only one."""
    if ctx.find_root().info_name != "cvfs-server":
        return ()
    from cvfs_server.settings import load_settings  # noqa: PLC0415
    from cvfs_server.tags.tags import list_tags  # noqa: PLC0415

    site, known = _site(ctx), list(_published(ctx))
    # A line that ends with an option without its value has no parameters yet.
    named = [fqrn for fqrn in known if fqrn in os.environ.get("COMP_WORDS", "").split()] or known
    if len(named) != 1 or load_settings(site, named[0]).s3:
        return ()
    return [tag.name for tag in list_tags(site, named[0])]


def _site(ctx: click.Context) -> Any:
    from cvfs_tools.server_options import ROOT_VARIABLE, site_at  # noqa: PLC0415

    return site_at(ctx.params.get("root") or os.environ.get(ROOT_VARIABLE, ""))


_OFFERS: dict[str, Offer] = {
    **dict.fromkeys(("repository", "repositories", "fqrn", "fqrns", "names"), _repositories),
    **dict.fromkeys(("places", "mounted", "mountpoints", "instance"), _mounted),
    **dict.fromkeys(("tag", "inspect", "remove", "source", "target"), _tags),
}
"""By the names that the verbs give to their parameters."""
