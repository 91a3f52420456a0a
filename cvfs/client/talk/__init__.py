"""What a running mount answers to `cvmfs_talk`: the words of the original, each group of commands a module of its own."""

from cvfs.client.observe.mounted import Mounted
from cvfs.client.talk.cache import CacheCommands
from cvfs.client.talk.commands import Command, Commands
from cvfs.client.talk.network import NetworkCommands, Probes
from cvfs.client.talk.process import ProcessCommands
from cvfs.client.talk.revision import RevisionCommands

__all__ = ["Command", "Commands", "all_commands"]


def all_commands(mounted: Mounted) -> Commands:
    """Every command of a mount."""
    upstream = mounted.plane.upstream
    probes = Probes(upstream.probe_round_trips, upstream.probe_geo)
    groups = (
        ProcessCommands(mounted),
        RevisionCommands(mounted),
        CacheCommands(mounted),
        NetworkCommands(mounted.plane.routes, mounted.plane.external_routes, probes),
    )
    return Commands([command for group in groups for command in group.commands()])
