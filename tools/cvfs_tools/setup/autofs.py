"""The map by which autofs mounts repositories on first access; steps, none of them done."""

from cvfs_tools.setup.plan import Directory, File, Section

MASTER = "/etc/auto.master.d/cvfs.autofs"
MAP = "/etc/auto.cvfs"
IDLE = 1200
"""Seconds after which a repository that nobody uses is unmounted."""

_MASTER = "# Made by cvfs setup.\n{directory} {map} --timeout={idle} --negative-timeout=5\n"

# The rule is the original's: a name with a dot, of letters, digits, '.', '-' and '_', that begins with a letter or digit.
_MAP = """\
#!/bin/sh
# Made by cvfs setup: autofs asks this map how to mount the repository that it names.
case "$1" in
    *[!A-Za-z0-9._-]* | [!A-Za-z0-9]* | *.) exit 1 ;;
    *.*) echo "-fstype=cvfs :$1" ;;
    *) exit 1 ;;
esac
"""


def autofs_map(directory: str) -> Section:
    """Repositories below `directory`, by automount(8)."""
    master = _MASTER.format(directory=directory, map=MAP, idle=IDLE)
    steps = (Directory(directory), File(MASTER, master.encode()), File(MAP, _MAP.encode(), 0o755))
    reload = (("systemctl", "try-reload-or-restart", "autofs.service"),)
    start = (("systemctl", "enable", "--now", "autofs.service"),)
    return Section("autofs", steps, reload, start)
