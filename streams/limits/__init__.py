"""Limits: rates across processes, slots and rates of one process, and clients that do not read."""
