"""Fixtures that all tests share."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

GOLDEN = (5**0.5 - 1) / 2


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what `one_in` leaves out: of a grid of cases, steps of the golden ratio take some of every row."""
    seen: Counter[str] = Counter()
    for item in items:
        if (mark := item.get_closest_marker("one_in")) is not None:
            name = item.nodeid.partition("[")[0]
            if seen[name] * GOLDEN % 1 >= 1 / mark.args[0]:
                item.add_marker("slow")
            seen[name] += 1


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of networks that are not part of the repository; skips the test where it is absent."""
    folder = os.environ.get("LIPCERT_TEST_DATA")
    if not folder:
        pytest.skip("LIPCERT_TEST_DATA is not set: the networks from outside the repository are absent")
    if not Path(folder).is_dir():
        pytest.skip(f"LIPCERT_TEST_DATA is no folder: {folder}")
    return Path(folder)
