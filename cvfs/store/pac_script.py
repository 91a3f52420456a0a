"""Runs a proxy configuration script (JavaScript) as a process of its own, which may be killed; the only home of pypac.

Reads a JSON object with `script` and `urls` from standard input and writes a list with what the script says for each URL.
"""

import json
import resource
import sys
from urllib.parse import urlsplit

_MOST_MEMORY = 2**30
_MOST_SECONDS = 60
_LONGEST_ANSWER = 65536


def main() -> int:
    """Exit status 0, or 1 with one line on standard error."""
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_MOST_SECONDS, _MOST_SECONDS))
    question = json.load(sys.stdin)
    try:
        answers = _evaluate(question["script"], question["urls"])
    except Exception as error:  # whatever a script from the network does to the engine
        sys.stderr.write(f"{' '.join(str(error).split())[:200]}\n")
        return 1
    json.dump(answers, sys.stdout)
    return 0


def _evaluate(script: str, urls: list[str]) -> list[str]:
    from pypac.parser import PACFile  # noqa: PLC0415 - an optional dependency, needed here only

    file = PACFile(script)
    return [str(file.find_proxy_for_url(url, urlsplit(url).hostname or ""))[:_LONGEST_ANSWER] for url in urls]
