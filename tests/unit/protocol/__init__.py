"""Tests of the protocol; `vectors` are the tests of every client."""
