"""The `__main__` of the single file: says which Python is needed, in words that every Python can read; starts the program."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - whoever starts it may be older
    sys.exit("cvfs: Python 3.11 or newer is needed, and this is Python %d.%d: try python3.11" % sys.version_info[:2])  # noqa: UP031

from unpacking import main

main(__file__)
