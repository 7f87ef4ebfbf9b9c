"""Finds work that was left undone, and does it."""
