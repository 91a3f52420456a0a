"""What it costs to run from a mount and to publish: a product of its own, started by `python -m benchmarks`.

It uses cvfs as its users do, by its commands, so that other file systems can be measured beside it by the same rules.
"""
