"""cvfs talk: the commands of cvmfs_talk, handed to running mounts."""

import json

import click

from cvfs.client.control import AS_JSON, AS_LINES
from cvfs.errors import CvfsError, UsageError
from cvfs_tools.mounts import Reply, control_socket, converse, running_mounts
from cvfs_tools.running import write_line


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-i", "instance", metavar="NAME", help="The repository, or its mount point; all mounts by default")
@click.option("-p", "socket", metavar="SOCKET", help="The control socket itself")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each mount: ok, answer")
@click.argument("command", nargs=-1, required=True)
def talk(instance: str | None, socket: str | None, command: tuple[str, ...], *, as_json: bool) -> None:
    """Hand a COMMAND to a running mount: cvfs talk -i sw.example.org help."""
    line = " ".join(command)
    if socket or instance:
        reply = converse(socket or control_socket(str(instance)), line, _form(as_json=as_json))
        _show(reply, as_json=as_json)
        raise SystemExit(0 if reply.ok else 1)
    raise SystemExit(max([_in_turn(line, *mount, as_json=as_json) for mount in _all()]))


def _all() -> list[tuple[str, str]]:
    found = [(mount.fqrn, mount.mountpoint) for mount in running_mounts()]
    if not found:
        raise UsageError("no repository is mounted: name one with -i, or its control socket with -p")
    return found


def _in_turn(line: str, fqrn: str, mountpoint: str, *, as_json: bool) -> int:
    """One of several mounts: its trouble is told, and does not keep the others from being asked."""
    if not as_json:
        write_line(f"{fqrn}:")
    try:
        reply = converse(control_socket(mountpoint), line, _form(as_json=as_json))
    except CvfsError as error:
        reply = Reply(ok=False, answer=[str(error)])
    _show(reply, as_json=as_json, fqrn=fqrn)
    return 0 if reply.ok else 1


def _show(reply: Reply, *, as_json: bool, **more: str) -> None:
    if as_json:
        write_line(json.dumps({**more, **reply._asdict()}))
        return
    for line in reply.answer:
        write_line(line)


def _form(*, as_json: bool) -> str:
    return AS_JSON if as_json else AS_LINES
