"""Real processes under random faults, watched from outside: see docs/chaos.md."""
