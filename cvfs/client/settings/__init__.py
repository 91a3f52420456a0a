"""Client parameters: `CVMFS_*` names and values in, frozen values out, one part for each who obeys them."""

from cvfs.client.settings.client import Settings, settings_for_url, settings_from
from cvfs.client.settings.files import parse_configuration

__all__ = ["Settings", "parse_configuration", "settings_for_url", "settings_from"]
