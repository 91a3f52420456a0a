"""Contests of the clients themselves: how long until a mount can be used, how much memory it takes."""
