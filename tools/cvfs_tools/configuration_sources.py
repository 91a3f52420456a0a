"""Moved to cvfs.client.configuration_sources; here only until everybody imports it from there."""

from cvfs.client.configuration_sources import *  # noqa: F403
