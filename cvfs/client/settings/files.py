"""Configuration files by themselves: shell-style assignments and conditions, read without a shell."""

import os
from collections.abc import Mapping, Sequence

from cvfs.client.settings.places import STANDARD_ETC, Places
from cvfs.client.settings.script import Script, Value
from cvfs.errors import UsageError


def parse_configuration(text: str, where: str) -> dict[str, str]:
    """The values that a configuration text gives. Raises UsageError with the place of a line that is not understood."""
    script = Script(Places(STANDARD_ETC), {}, {})
    script.run(text, where)
    return {name: value.text for name, value in script.values.items()}


def read_files(paths: Sequence[str], fixed: Mapping[str, Value], environment: Mapping[str, str]) -> dict[str, Value]:
    """The values that some files give, one after the other; each must exist. Raises UsageError."""
    places = Places(STANDARD_ETC)
    script = Script(places, fixed, environment)
    for path in paths:
        if not os.path.lexists(path):
            raise UsageError(f"{path}: no such configuration file")
        places.allow(os.path.dirname(os.path.abspath(path)))
        script.run_file(os.path.abspath(path))
    return script.values
