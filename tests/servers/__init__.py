"""Servers of other makers for tests. Each is optional on a laptop and required in CI.

`python -m tests.servers install` fetches all of them into var/servers once;
tests/servers/fixtures.py has the fixtures.
"""
