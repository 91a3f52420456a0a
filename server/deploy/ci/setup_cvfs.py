"""Sets cvfs up on a machine of continuous integration: installs, configures, mounts and probes it; publishes nothing.

The action at the top of this tree runs it with its inputs as JSON in SETUP_INPUTS; elsewhere, in GitLab for instance, the
variables of the job are the inputs. README.md beside this file lists them. Needs nothing but Python.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

OLDEST_PYTHON = (3, 11)
MARK = "# Written by cvfs's set-up for continuous integration; what was here before is in default.local.before.\n"
# What is asked of this program, not of a client.
OWN = {"CVMFS_CONFIG_PACKAGE": "", "SETUP_SOURCE": "", "SETUP_MOUNT": "yes", "SETUP_VENV": ""}
LARGEST_PACKAGE = 64 * 2**20
PATIENCE = 60.0
INSTALLED_WITHIN = 900.0
_NAME = re.compile(r"(?:CVMFS|CVFS)_[A-Z0-9_]+")


class SetupError(Exception):
    """One line that says what failed and what to do."""


def inputs_of(environment: Mapping[str, str]) -> dict[str, str]:
    """What was asked for, by name in capitals: the action's inputs, or variables; empty ones were not asked for."""
    given: dict[str, str] = dict(environment)
    if environment.get("SETUP_INPUTS"):
        given |= {
            name.upper().replace("-", "_"): str(text) for name, text in json.loads(environment["SETUP_INPUTS"]).items()
        }
    return {
        name: text.strip() for name, text in given.items() if text.strip() and (name in OWN or _NAME.fullmatch(name))
    }


def parameters_of(inputs: Mapping[str, str]) -> dict[str, str]:
    """Those that clients read, in order of their names."""
    # Where the tree lies is said to commands, by the environment.
    return {name: inputs[name] for name in sorted(inputs) if name not in OWN and name not in ("CVFS_ETC", "CVFS_ROOT")}


def default_local(parameters: Mapping[str, str]) -> str:
    """The file that makes them the machine's configuration. Raises SetupError for what cannot stand in it."""
    for name, text in parameters.items():
        if "'" in text or not text.isprintable():
            raise SetupError(f"{name}: no quotes and no line breaks, please: {text!r}")
    return MARK + "".join(f"{name}='{text}'\n" for name, text in parameters.items())


def repositories_of(parameters: Mapping[str, str]) -> list[str]:
    """Those to be mounted."""
    return [name for name in re.split(r"[,\s]+", parameters.get("CVMFS_REPOSITORIES", "")) if name]


class Machine:
    """The machine that is set up: as root, by sudo, or for one user alone, who then has no mounts."""

    def __init__(self, environment: Mapping[str, str], sudo: Sequence[str] | None) -> None:
        self._environment = environment
        self._sudo = sudo
        home = environment.get("XDG_CONFIG_HOME") or f"{environment.get('HOME', '')}/.config"
        self.etc = environment.get("CVFS_ETC") or (f"{home}/cvfs" if sudo is None else "/etc/cvmfs")

    @property
    def may_mount(self) -> bool:
        """Whether it is root's to mount here."""
        return self._sudo is not None

    def run(self, *command: str, say: str | None = None, within: float = PATIENCE) -> None:
        """A command with the rights there are. Raises SetupError."""
        run((*(self._sudo or ()), *command), say=say, within=within)

    def write(self, name: str, text: str) -> None:
        """A file of the tree, as a whole; one that somebody else has written is kept aside."""
        place = f"{self.etc}/{name}"
        self.run("mkdir", "-p", os.path.dirname(place))
        if os.path.exists(place) and MARK not in Path(place).read_text(encoding="utf-8", errors="replace"):
            self.run("mv", place, f"{place}.before")
        self.run("tee", place, say=text)

    def command(self, cvfs: str, *words: str) -> tuple[str, ...]:
        """A verb of cvfs that reads this tree: sudo passes no environment on."""
        return (cvfs, "--etc", self.etc, *words)


def machine_of(environment: Mapping[str, str]) -> Machine:
    """As root if possible."""
    if os.geteuid() == 0:
        return Machine(environment, ())
    asked = ("sudo", "-n")
    return Machine(environment, asked if _succeeds((*asked, "true")) else None)


def _succeeds(command: Sequence[str]) -> bool:
    try:
        subprocess.run(command, capture_output=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def run(command: Sequence[str], say: str | None = None, within: float = PATIENCE) -> None:
    """A command; what it says goes to the log. Raises SetupError."""
    try:
        # What tee(1) repeats may hold passwords of proxies.
        output = None if say is None else subprocess.DEVNULL
        done = subprocess.run(command, input=say, stdout=output, text=True, timeout=within, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"{command[0]}: {error}") from error
    if done.returncode:
        raise SetupError(f"{' '.join(command)}: ended with status {done.returncode}, see above")


def install(inputs: Mapping[str, str], environment: Mapping[str, str]) -> str:
    """The command `cvfs`: the one that is there, or a new one in a virtual environment. Raises SetupError."""
    present = shutil.which("cvfs")
    if present and not inputs.get("SETUP_SOURCE"):
        tell(f"{present} is there already")
        return present
    parent = environment.get("RUNNER_TOOL_CACHE") or f"{environment.get('HOME', '')}/.local/share"
    place = inputs.get("SETUP_VENV") or f"{parent}/cvfs-venv"
    source = inputs.get("SETUP_SOURCE") or own_source()
    tell(f"installing {source} in {place}")
    run((sys.executable, "-m", "venv", place), within=INSTALLED_WITHIN)
    run((f"{place}/bin/python", "-m", "pip", "install", "--quiet", f"{source}[zstd]"), within=INSTALLED_WITHIN)
    return f"{place}/bin/cvfs"


def own_source() -> str:
    """The tree that this program lies in, or the package of the index if it was copied out of it."""
    top = Path(__file__).resolve().parents[3]
    return str(top) if (top / "pyproject.toml").exists() else "cvfs"


def unpack_configuration(package: str, machine: Machine) -> None:
    """`etc/cvmfs` of a Debian package, given by file or https URL; nothing of the package is run. Raises SetupError."""
    with tempfile.TemporaryDirectory(prefix="cvfs-setup-") as scratch:
        archive = fetched(package, f"{scratch}/package.deb") if "://" in package else package
        if not os.path.isfile(archive):
            raise SetupError(f"{package}: neither a Debian package on this machine nor the https URL of one")
        run(("dpkg-deb", "--extract", archive, f"{scratch}/tree"))
        tree = f"{scratch}/tree/etc/cvmfs"
        if not os.path.isdir(tree):
            raise SetupError(f"{package}: holds no etc/cvmfs, it is not the configuration of a client")
        machine.run("mkdir", "-p", machine.etc)
        machine.run("cp", "-R", f"{tree}/.", machine.etc)
    tell(f"configuration of {package} unpacked to {machine.etc}")


def fetched(url: str, place: str) -> str:
    """A file of the web, within bounds. Raises SetupError."""
    if urllib.parse.urlsplit(url).scheme != "https":
        raise SetupError(f"{url}: holds the keys that everything is believed by, so https it must be")
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310  (https, as was just seen)
            data = answer.read(LARGEST_PACKAGE + 1)
    except OSError as error:
        raise SetupError(f"{url}: {error}") from error
    if len(data) > LARGEST_PACKAGE:
        raise SetupError(f"{url}: larger than {LARGEST_PACKAGE >> 20} MB, that is no configuration")
    Path(place).write_bytes(data)
    return place


def mount(cvfs: str, machine: Machine, repositories: Sequence[str]) -> None:
    """All of them that are not mounted yet, then a look into each. Raises SetupError."""
    mounted = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    for name in repositories:
        if f"/{name} fuse.cvfs " not in mounted:
            machine.run(*machine.command(cvfs, "mount", name), within=2 * PATIENCE)
    run(machine.command(cvfs, "probe", *repositories), within=2 * PATIENCE)
    tell(f"mounted: {' '.join(repositories)}")


def set_up(environment: Mapping[str, str]) -> None:
    """Everything, in order. Raises SetupError."""
    if sys.version_info < OLDEST_PYTHON:
        raise SetupError(
            f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: set one up before this step"
        )
    inputs = OWN | inputs_of(environment)
    parameters, machine = parameters_of(inputs), machine_of(environment)
    text = default_local(parameters)
    cvfs = install(inputs, environment)
    export("GITHUB_PATH", os.path.dirname(cvfs), environment)
    if inputs["CVMFS_CONFIG_PACKAGE"]:
        unpack_configuration(inputs["CVMFS_CONFIG_PACKAGE"], machine)
    machine.write("default.local", text)
    repositories = repositories_of(parameters)
    if machine.may_mount and repositories and inputs["SETUP_MOUNT"].lower() in ("yes", "true", "on", "1"):
        mount(cvfs, machine, repositories)
    else:
        tell(f"nothing is mounted; run what needs repositories with: {cvfs} exec -r REPOSITORY -- COMMAND")


def export(variable: str, line: str, environment: Mapping[str, str]) -> None:
    """A line into the file by which a runner hears of its later steps, where there is a runner."""
    if environment.get(variable):
        with open(environment[variable], "a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def tell(message: str) -> None:
    """A line for the log of the job."""
    print(f"setup-cvfs: {message}", flush=True)


def main() -> int:
    """The exit status."""
    try:
        set_up(os.environ)
    except SetupError as error:
        tell(f"failed: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
