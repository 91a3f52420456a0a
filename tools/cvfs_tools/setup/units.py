"""Units for systemd: of the parent mount, and of repositories that are mounted for good; steps, none of them done."""

import re

from cvfs_tools.setup.plan import Directory, File, Link, Section

UNITS = "/etc/systemd/system"
PARENT, SINGLE = "cvfs.service", "cvfs@.service"
_RELOAD = (("systemctl", "daemon-reload"),)

_HEAD = """\
# Made by cvfs setup; changes belong into a drop-in (systemctl edit {unit}).
[Unit]
Description={description}
Documentation=man:cvfs(1)
"""

# Only the main process is told to end: it takes away what is not in use. Programs that run from a repository keep its
# client until they end, also across a restart of the unit.
_PARENT_BODY = """\
After=network.target nss-lookup.target local-fs.target
Before=remote-fs.target autofs.service

[Service]
Type=notify
ExecStart={command} automount --foreground {directory}
KillMode=process
Restart=on-failure
RestartSec=1
TimeoutStartSec=60
TimeoutStopSec=60

[Install]
WantedBy=multi-user.target
"""

_SINGLE_BODY = """\
Wants=network-online.target
After=network-online.target nss-lookup.target local-fs.target
Before=remote-fs.target

[Service]
Type=notify
ExecStartPre=/bin/mkdir -p {directory}/%i
ExecStart={command} mount --foreground %i {directory}/%i
ExecStopPost=-{command} umount -l {directory}/%i
KillMode=mixed
Restart=on-failure
RestartSec=5
TimeoutStartSec=120
TimeoutStopSec=60

[Install]
WantedBy=multi-user.target
"""


def parent_unit(command: list[str], directory: str) -> Section:
    """One mount at `directory` that mounts repositories on first access."""
    description = f"Repositories below {directory}, mounted on first access"
    text = _HEAD.format(unit=PARENT, description=description) + _PARENT_BODY.format(
        command=_quoted(command), directory=_quoted([directory])
    )
    steps = (Directory(directory), File(f"{UNITS}/{PARENT}", text.encode()), _enabled(PARENT, PARENT))
    return Section("systemd", steps, _RELOAD, (("systemctl", "start", PARENT),), (("systemctl", "stop", PARENT),))


def single_units(command: list[str], directory: str, repositories: tuple[str, ...]) -> Section:
    """A mount for each repository, from boot on."""
    text = _HEAD.format(unit=SINGLE, description=f"Repository %i at {directory}/%i") + _SINGLE_BODY.format(
        command=_quoted(command), directory=_quoted([directory])
    )
    units = [SINGLE.replace("@", f"@{fqrn}") for fqrn in repositories]
    links = [_enabled(unit, SINGLE) for unit in units]
    return Section(
        "systemd",
        # The unit makes them too, for repositories that are added without a set-up; these are taken back.
        (
            *(Directory(f"{directory}/{fqrn}") for fqrn in repositories),
            File(f"{UNITS}/{SINGLE}", text.encode()),
            *links,
        ),
        _RELOAD,
        tuple(("systemctl", "start", unit) for unit in units),
        tuple(("systemctl", "stop", unit) for unit in units),
    )


def _enabled(unit: str, file: str) -> Link:
    """What `systemctl enable` makes; so it also works in the files of a machine that is not running."""
    return Link(f"{UNITS}/multi-user.target.wants/{unit}", f"{UNITS}/{file}")


def _quoted(words: list[str]) -> str:
    """As a unit takes them (systemd.syntax(7)): % and $ doubled, and a word is quoted as a whole or not at all."""
    return " ".join(_quoted_word(word) for word in words).replace("%", "%%").replace("$", "$$")


def _quoted_word(word: str) -> str:
    if re.fullmatch(r"[\w@%+=:,./-]+", word, re.ASCII):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
