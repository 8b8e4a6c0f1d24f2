"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of networks that are not part of the repository; skips the test where it is absent."""
    folder = os.environ.get("LIPCERT_TEST_DATA")
    if not folder:
        pytest.skip("LIPCERT_TEST_DATA is not set: the networks from outside the repository are absent")
    if not Path(folder).is_dir():
        pytest.skip(f"LIPCERT_TEST_DATA is no folder: {folder}")
    return Path(folder)
