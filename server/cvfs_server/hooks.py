"""What a site does by itself before and after a verb: shell functions of one file, without a deadline; knows no verb.

Source: the original's /etc/cvmfs/cvmfs_server_hooks.sh with {transaction,publish,abort}_{before,after}_hook.
"""

import logging
import os
import shutil
import subprocess

from cvfs.errors import UsageError
from cvfs_server.site import Site

log = logging.getLogger(__name__)

_FILE = "/etc/cvmfs/cvmfs_server_hooks.sh"
# A function that returns lets the verb go on, whatever it returns; one that exits ends it, as in the original.
_EXITED_WITH_0 = 120
_SCRIPT = f"""
returned=
trap 'status=$?; [ "$returned" ] || [ $status -ne 0 ] || exit {_EXITED_WITH_0}' EXIT
"$4" -n "$1" || exit
. "$1"
if command -v "$2" >/dev/null; then
  "$2" "$3"
  status=$?
  [ $status = 0 ] || echo "cvfs-server: warning: $2 returned $status" >&2
fi
returned=yes
exit 0
"""


def run_hook(site: Site, verb: str, moment: str, fqrn: str) -> None:
    """Run the function VERB_MOMENT_hook with the repository's name, if the site has one.

    It talks to the user's terminal and takes as long as it likes. If it exits instead of returning, or the file cannot be
    read, the verb must not begin: raises UsageError; where `moment` is "after", that is only logged.
    """
    path, name = site.root + _FILE, f"{verb}_{moment}_hook"
    if not os.path.isfile(path):
        return
    # The files are written for the shell of the original.
    shell = shutil.which("bash") or "sh"
    done = subprocess.run([shell, "-c", _SCRIPT, "cvfs-server", path, name, fqrn, shell], check=False)
    if done.returncode == 0:
        return
    status = 0 if done.returncode == _EXITED_WITH_0 else done.returncode
    message = f"{fqrn}: {name} of {path} exited with status {status}"
    if moment == "before":
        raise UsageError(f"{message}: {verb} was not begun")
    log.warning("%s", message)
