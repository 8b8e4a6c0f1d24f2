"""Options that say what a Lipschitz bound is asked for, and how it is looked for. Shared by bound and compare."""

from __future__ import annotations

from typing import Any

import click

from lipcert.cli.region import F, read_outputs, region_options

_NORMS = (
    click.option(
        "--norm", default="2", show_default=True, metavar="P", help="Norm of inputs and outputs: 1, 2 or inf."
    ),
    click.option("--norm-in", metavar="P", help="Norm of inputs, where it differs."),
    click.option("--norm-out", metavar="P", help="Norm of outputs, where it differs."),
)

_HOW = (
    click.option("--input", "inputs", multiple=True, metavar="NAME", help="Vary only this input (repeatable)."),
    click.option("--output", default="", metavar="NAME", help="Which output, where the model has several."),
    click.option(
        "--method", default="auto", show_default=True, help="auto, or one backend: product, local, lipsdp, gram, mip."
    ),
    click.option("--exact", is_flag=True, help="Over a region: branch until the gap is at most --gap  [default: 1.01]"),
    click.option(
        "--timeout", type=click.FloatRange(min=0), metavar="S", help="Seconds to spend at most  [default: 60]"
    ),
    click.option("--gap", type=click.FloatRange(min=1), metavar="G", help="Stop once upper / lower is at most G."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda: where to search."),
    click.option("--solver", default="native", show_default=True, help="Of LipSDP: native, clarabel, scs or mosek."),
    click.option(
        "--template", "templates", multiple=True, metavar="FILE", help="A quadratic constraint for a custom op."
    ),
    click.option(
        "--unrolled", is_flag=True, help="Read Loops step by step, not as the fixed points that they tend to."
    ),
)


def bound_options(command: F) -> F:
    """Add the options to a command."""
    for option in reversed(_HOW):
        command = option(command)
    command = region_options(command)
    for option in reversed(_NORMS):
        command = option(command)
    return command


def asked_for(options: dict[str, Any]) -> dict[str, Any]:
    """What api.bound is asked for, wherever that is."""
    norm_in, norm_out = _norms(options)
    same = ("output", "method", "timeout", "gap", "device", "solver", "exact")
    return {
        "norm_in": norm_in,
        "norm_out": norm_out,
        "outputs": read_outputs(options),
        "inputs": list(options["inputs"]),
        **{name: options[name] for name in same},
    }


def _norms(options: dict[str, Any]) -> tuple[float, float]:
    from lipcert.problem import parse_norm

    both = parse_norm(options["norm"], "--norm")
    norm_in = both if options["norm_in"] is None else parse_norm(options["norm_in"], "--norm-in")
    norm_out = both if options["norm_out"] is None else parse_norm(options["norm_out"], "--norm-out")
    return norm_in, norm_out
