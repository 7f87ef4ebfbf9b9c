"""Fixtures for all tests."""

from tests.servers.fixtures import aimock_installed, llamacpp_url, llmock_installed  # noqa: F401 - fixtures are found by name
