"""What a mount leaves for people to look at: logs, traces, latencies, numbers, and what is left of it after a crash."""
