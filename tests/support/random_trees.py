"""How often tests try random trees, and how hypothesis is to go about it."""

import os

from hypothesis import HealthCheck, Phase, settings


def tried(examples: int) -> settings:
    """So many examples, or CVFS_EXAMPLES."""
    return settings(
        max_examples=int(os.environ.get("CVFS_EXAMPLES", str(examples))),
        deadline=None,
        # Failures shrink badly, as each step publishes: they are stored and tried again instead.
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
