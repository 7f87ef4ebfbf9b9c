"""Finds work that nobody does, and does it."""
