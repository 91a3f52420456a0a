"""The tree of configuration files (/etc/cvmfs), read in the original's order (FORMAT section 9.9); asks no network itself.

Later files win. What the environment or the command line fixed wins over every file, and files see it.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cvfs.client.settings.places import STANDARD_ETC, Places, files_named
from cvfs.client.settings.script import Script, Value
from cvfs.errors import UsageError
from cvfs.format.fqrn import check_fqrn

CONFIG_REPOSITORY = "CVMFS_CONFIG_REPOSITORY"
DEFAULT_MOUNT_DIR = "/cvmfs"
# What a command line says of the repository that it names says nothing of the configuration repository.
_OF_ONE_REPOSITORY = frozenset(
    ("CVMFS_SERVER_URL", "CVMFS_EXTERNAL_URL", "CVMFS_PUBLIC_KEY", "CVMFS_KEYS_DIR", "CVMFS_ROOT_HASH")
) | {"CVMFS_REPOSITORY_TAG", "CVMFS_REPOSITORY_DATE", "CVFS_MINIMUM_REVISION", "CVFS_MAX_MANIFEST_AGE"}
_ON = frozenset(("yes", "on", "1", "true"))


class Copy(NamedTuple):
    """The files of a configuration repository on this machine, `directory` None if there are none, and what is to be said."""

    directory: str | None
    revision: int | None = None
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the files say for one repository; `fqrn` is "" for what is common to all."""

    fqrn: str
    etc: str
    values: Mapping[str, Value] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    copy: Copy | None = None

    def text(self, name: str, default: str = "") -> str:
        """The value of a parameter as it was given, without `@fqrn@` and `@org@` filled in."""
        return self.values[name].text if name in self.values else default

    def is_on(self, name: str) -> bool:
        """Whether a switch is set."""
        return self.text(name).strip().lower() in _ON

    def words(self, name: str) -> list[str]:
        """The parts of a list separated by commas."""
        return [word.strip() for word in self.text(name).split(",") if word.strip()]

    def parameters(self) -> dict[str, str]:
        """Every name with its value."""
        return {name: value.text for name, value in self.values.items()}

    def fqrn_of(self, name: str) -> str:
        """A repository's whole name: one without a dot is in the default domain. Raises UsageError, FormatError."""
        if "." not in name and (domain := self.text("CVMFS_DEFAULT_DOMAIN").strip()):
            name = f"{name}.{domain}"
        check_fqrn(name)
        return name

    def repositories(self) -> list[str]:
        """The repositories that are configured by name."""
        return [self.fqrn_of(name) for name in self.words("CVMFS_REPOSITORIES")]


# Gives the copy of the repository that a configuration describes. It may wait, within limits of its own.
Fetch = Callable[[Configuration], Copy]


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree of files with what stands above it: `fixed` values, which win, and the `environment`, which files may ask."""

    etc: str = STANDARD_ETC
    fixed: Mapping[str, Value] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    fetch: Fetch | None = None

    def common(self) -> Configuration:
        """What is said for all repositories, without the configuration repository. Raises UsageError."""
        script = self._script("")
        self._read_defaults(script)
        script.run_file(f"{self.etc}/default.local")
        return self._configuration(script, "", None)

    def of(self, name: str) -> Configuration:
        """What is said for one repository, given by its whole or short name. Raises UsageError, FormatError."""
        fqrn = self.common().fqrn_of(name)
        script = self._script(fqrn)
        self._read_defaults(script)
        script.protect(CONFIG_REPOSITORY)
        copy = self._copy(script, fqrn)
        self._read_layers(script, fqrn, copy.directory if copy else None)
        found = self._configuration(script, fqrn, copy)
        if copy and not copy.directory and found.is_on("CVMFS_CONFIG_REPO_REQUIRED"):
            raise UsageError(f"{fqrn}: CVMFS_CONFIG_REPO_REQUIRED is set, but {copy.warning}")
        return found

    def _script(self, fqrn: str) -> Script:
        machine = {"CVMFS_FQRN": fqrn, "CVMFS_ARCH": os.uname().machine}
        return Script(Places(self.etc), self.fixed, {**self.environment, **machine})

    def _read_defaults(self, script: Script) -> None:
        script.run_file(f"{self.etc}/default.conf")
        for path in files_named(f"{self.etc}/default.d", r".*\.conf"):
            script.run_file(path)

    def _copy(self, script: Script, fqrn: str) -> Copy | None:
        name = (script.lookup(CONFIG_REPOSITORY) or "").strip()
        if not name or name == fqrn or not self.fetch:
            return None
        check_fqrn(name)
        # Its own configuration comes from this machine alone: it cannot say where it is found.
        fixed = {given: value for given, value in self.fixed.items() if given not in _OF_ONE_REPOSITORY}
        copy = self.fetch(Tree(self.etc, fixed, self.environment).of(name))
        if copy.warning:
            script.warnings.append(copy.warning)
        return copy

    @staticmethod
    def _find_copy(script: Script, copied: str) -> None:
        """Files name the configuration repository as if it was mounted."""
        mount_dir = (script.lookup("CVMFS_MOUNT_DIR") or DEFAULT_MOUNT_DIR).rstrip("/")
        script.places.move(f"{mount_dir}/{script.lookup(CONFIG_REPOSITORY)}", copied)

    def _read_layers(self, script: Script, fqrn: str, copied: str | None) -> None:
        domain = fqrn.partition(".")[2]
        if copied:
            self._find_copy(script, copied)
            script.run_forgiving(f"{copied}/etc/cvmfs/default.conf")
        script.run_file(f"{self.etc}/default.local")
        if copied:
            self._find_copy(script, copied)
        for layer in (f"domain.d/{domain}", f"config.d/{fqrn}"):
            if copied:
                script.run_forgiving(f"{copied}/etc/cvmfs/{layer}.conf")
            script.run_file(f"{self.etc}/{layer}.conf")
            script.run_file(f"{self.etc}/{layer}.local")

    def _configuration(self, script: Script, fqrn: str, copy: Copy | None) -> Configuration:
        values = {
            name: value._replace(text=script.places.in_value(name, value.text)) for name, value in script.values.items()
        }
        return Configuration(fqrn, self.etc, {**values, **self.fixed}, tuple(script.warnings), copy)
