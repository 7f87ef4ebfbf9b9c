"""Limits: rates for all processes, places and minutes for one, and readers that do not read."""
