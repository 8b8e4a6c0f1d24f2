"""Assertions about networks, for the tests of those who train them; `lipcert.testing.plugin` is the pytest plugin."""

from lipcert.testing.assertions import assert_lipschitz

__all__ = ["assert_lipschitz"]
