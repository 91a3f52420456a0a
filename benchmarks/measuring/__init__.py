"""One command run, and what it, a client and the machine are found to be at that."""
