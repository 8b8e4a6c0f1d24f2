"""Assertions that hold because they are proven."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lipcert.report import Report


def assert_lipschitz(model: Any, *, max: float, **question: Any) -> Report:
    """Assert that the certified Lipschitz constant of a network is at most `max`, and return the report.

    `model` and `question` are what lipcert.bound takes: a path or a torch module (with `example`); norm, center, eps,
    region, outputs, timeout. AssertionError names the bound, what is attained, and whether a tighter bound could pass;
    where nothing is proven it says so. A bound that is conditional on templates does not pass.

        >>> assert_lipschitz("models/digits_relu.onnx", max=24).method
        'lipsdp'
    """
    from lipcert import api
    from lipcert.errors import UsageError

    if not max >= 0:
        raise UsageError(f"max: {max} is not a limit", hint="use a number >= 0")
    # a rewritten assert would print the whole report below the message
    __tracebackhide__ = True
    report = api.bound(model, **question)
    problem = _problem(report, max)
    if problem:
        raise AssertionError(f"{report.data['model']['path']}: {problem}")
    return report


def _problem(report: Report, limit: float) -> str:
    """Why the report does not show that the bound is at most the limit; empty where it does."""
    if report.upper is None:
        reasons = dict.fromkeys(f"{a['method']}: {a['reason']}" for a in report.data["attempts"] if a["reason"])
        return f"no Lipschitz constant was proven ({'; '.join(reasons) or 'in the time that there was'})"
    if report.status != "certified":
        return f"the Lipschitz constant {report.upper:.6g} is {report.status}, not certified"
    if report.upper <= limit:
        return ""
    if report.lower > limit:
        return (
            f"the Lipschitz constant is above {limit:g}: {report.lower:.6g} is attained (certified {report.upper:.6g})"
        )
    return (
        f"the Lipschitz constant is not proven to be at most {limit:g}: certified {report.upper:.6g}, "
        f"attained {report.lower:.6g} (a longer timeout might prove it)"
    )
