"""Repositories as a whole: made, taken over, brought up to date, removed."""
