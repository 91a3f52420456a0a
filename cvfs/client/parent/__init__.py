"""One mount at /cvmfs that stays: repositories are mounted in it on first access, by processes of their own, and healed."""
