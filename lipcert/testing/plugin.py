"""The pytest plugin: a mark that names a network and a limit, and a fixture with the report that proves it.

@pytest.mark.lipcert_model("models/classifier.onnx", max=30)
def test_classifier(lipcert_report):
    assert lipcert_report.gap < 1.5
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lipcert.report import Report

MARK = "lipcert_model"
USAGE = f"{MARK}(model, max=None, **question): the network that `lipcert_report` bounds, as lipcert.bound is asked"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", USAGE)


@pytest.fixture
def lipcert_report(request: pytest.FixtureRequest) -> Report:
    """The certified report of the network that the test's mark names; the test fails where it is above its `max`."""
    mark = request.node.get_closest_marker(MARK)
    if mark is None or len(mark.args) != 1:
        pytest.fail(f"lipcert_report needs a mark with one model: @pytest.mark.{MARK}(model, max=...)", pytrace=False)
    from lipcert.testing.assertions import assert_lipschitz

    question = dict(mark.kwargs)
    limit = question.pop("max", None)
    model = mark.args[0]
    if isinstance(model, str):
        model = request.config.rootpath / model
    return assert_lipschitz(model, max=float("inf") if limit is None else limit, **question)
