"""Planted bugs, and a tool that shows which check notices each: `make mutants`, docs/mutants.md."""
