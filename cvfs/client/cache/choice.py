"""Which cache the settings mean, and what goes into it: the one place that knows every kind; it fetches nothing."""

import os

from cvfs.client.cache import alien, ram, tiered
from cvfs.client.cache.base import Cache
from cvfs.client.cache.object_cache import ObjectCache
from cvfs.client.settings.cache import CacheInstance, CacheSettings, PosixCache, RamCache
from cvfs.errors import UsageError
from cvfs.store.base import Contents
from cvfs.store.cached import Cached, Streamed, Uncached
from cvfs.store.verified import Verified


def open_cache(settings: CacheSettings) -> Cache | None:
    """The cache, ready; None where nothing is to be kept. What is not usable is logged, and served without being kept."""
    instance = settings.instance
    if instance is None:
        return None
    cache = make_cache(instance, verify=settings.verify_on_open)
    cache.prepare()
    return cache


def make_cache(instance: CacheInstance, *, verify: bool = False) -> Cache:
    """A cache of that kind, not yet prepared."""
    if isinstance(instance, PosixCache):
        if instance.alien:
            return alien.AlienCache(instance.directory, verify=verify)
        return ObjectCache(instance.directory, instance.quota, verify=verify)
    if isinstance(instance, RamCache):
        return ram.RamCache(instance.size)
    upper, lower = make_cache(instance.upper, verify=verify), make_cache(instance.lower, verify=verify)
    return tiered.TieredCache(upper, lower, read_only=instance.lower_read_only)


def standing_cache(directory: str) -> ObjectCache | alien.AlienCache:
    """The cache that lies in a directory, not yet prepared; it is not limited. Raises UsageError if there is none."""
    if not os.path.isdir(directory):
        raise UsageError(f"Could not chdir to {directory}")
    if not os.path.isdir(f"{directory}/txn"):
        raise UsageError(f"Invalid cache directory, {directory}/txn does not exist")
    # Books may be lost; the skeleton of an alien cache is there from the start.
    plain = os.path.isdir(f"{directory}/quarantaine") and not os.path.isdir(f"{directory}/books")
    return alien.AlienCache(directory) if plain else ObjectCache(directory)


def keeping(settings: CacheSettings, cache: Cache | None, verified: Verified) -> Contents:
    """Contents of a verified store that are kept in `cache`, or not, as the settings say."""
    if cache is None:
        return Uncached(verified)
    kept = Cached(verified, cache, cache.staging)
    return Streamed(kept, Uncached(verified, cache.staging)) if settings.streaming else kept
