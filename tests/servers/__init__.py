"""Servers of other makers, to test against what this project did not write. Each is optional on a laptop and required in CI.

`python -m tests.servers install` fetches all of them into var/servers (once); the fixtures are in tests/servers/fixtures.py.
"""
