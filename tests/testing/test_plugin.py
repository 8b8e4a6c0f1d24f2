"""What a test of somebody else's says about a network: `assert_lipschitz`, and the pytest plugin."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import helper

from lipcert.errors import UsageError
from lipcert.testing import assert_lipschitz
from tests.gate.conftest import network
from tests.helpers.onnx_models import model
from tests.helpers.processes import run_process

PRODUCT = {"method": "product"}


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return network(10.0, tmp_path, "net.onnx")


def test_a_certified_bound_within_the_limit_passes(net: Path) -> None:
    report = assert_lipschitz(net, max=8, **PRODUCT)
    assert report.upper is not None
    assert report.upper <= 8
    assert assert_lipschitz(net, max=report.upper, **PRODUCT).upper == report.upper


def test_a_failure_says_what_is_certified_and_attained(net: Path) -> None:
    report = assert_lipschitz(net, max=8, **PRODUCT)
    assert report.upper is not None
    attained, certified = f"{report.lower:.6g} is attained", f"certified {report.upper:.6g}"
    with pytest.raises(AssertionError, match=rf"net\.onnx: .*above 1: {attained} \({certified}"):
        assert_lipschitz(net, max=1, **PRODUCT)
    between = (report.lower + report.upper) / 2
    with pytest.raises(AssertionError, match=rf"not proven to be at most .*: {certified}.*a longer timeout"):
        assert_lipschitz(net, max=between, **PRODUCT)
    with pytest.raises(UsageError, match="not a limit"):
        assert_lipschitz(net, max=float("nan"))


def test_nothing_proven_does_not_pass(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lipcert.planning.solve import METHODS
    from tests.cli.test_main import Silent

    monkeypatch.setitem(METHODS, "product", Silent)
    with pytest.raises(AssertionError, match="no Lipschitz constant was proven"):
        assert_lipschitz(net, max=1e9, **PRODUCT)


def test_a_conditional_bound_does_not_pass() -> None:
    from lipcert.report import Report
    from lipcert.testing.assertions import _problem

    data = {"result": {"status": "conditional", "upper": 1.0, "lower": 0.5}}
    assert "conditional, not certified" in _problem(Report(data), 2.0)


def test_a_linear_map_in_memory() -> None:
    assert_lipschitz(model([helper.make_node("Neg", ["x"], ["y"])], {"x": [1, 3]}, ["y"]), max=1.001, **PRODUCT)


def test_the_plugin(net: Path) -> None:
    (net.parent / "test_net.py").write_text(
        "import pytest\n"
        "mark = pytest.mark.lipcert_model\n"
        "@mark('net.onnx', max=8, method='product')\n"
        "def test_passes(lipcert_report): assert lipcert_report.upper < 8\n"
        "@mark('net.onnx', max=1, method='product')\n"
        "def test_fails(lipcert_report): pass\n"
        "def test_has_no_mark(lipcert_report): pass\n"
    )
    program = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
    options = ("-p", "no:cacheprovider", "--strict-markers", "-q", "--rootdir", net.parent)
    done = run_process(*options, "test_net.py", program=program, folder=net.parent)
    assert done.returncode == 1
    assert "1 passed, 2 errors" in done.stdout
    assert "net.onnx: the Lipschitz constant is above 1" in done.stdout
    assert "lipcert_report needs a mark with one model" in done.stdout
