"""`lipcert inspect`: what the import made of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lipcert.frontend import Model


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model", required=False)
@click.option("--ops", is_flag=True, help="List the ONNX ops that lipcert reads, with their opset versions.")
@click.option("--norms", is_flag=True, help="Prove the l1, l2 and linf norms of every linear operator.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="S", help="Seconds for --norms  [default: 60]")
@click.option("--template", "templates", multiple=True, metavar="FILE", help="A quadratic constraint for a custom op.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def inspect(
    model: str | None, ops: bool, norms: bool, timeout: float | None, templates: tuple[str, ...], debug: bool
) -> int:
    """Show the inputs, outputs and nodes of MODEL as lipcert sees them, and how the import was checked.

    Of a model that is refused, show every node that is the reason, not only the first.
    """
    from lipcert.errors import ModelError, UsageError
    from lipcert.report.inspection import print_model, print_norms, print_ops, print_refusals

    if timeout is not None and not norms:
        raise UsageError("--timeout is for --norms", hint="lipcert inspect model.onnx --norms --timeout 10")
    if ops and norms:
        raise UsageError("--ops lists what lipcert reads, --norms looks at a model", hint="use one of them")
    if ops:
        print_ops()
        return 0
    if model is None:
        raise UsageError("inspect needs a model", hint="lipcert inspect model.onnx")
    from lipcert import api

    try:
        loaded = api.load(model, templates=templates)
        if norms:
            from lipcert.cli.progress import progress

            with progress("norms", enabled=True) as say:
                found = api.layer_norms(loaded, timeout=timeout, on_step=lambda what: say(what, None))
            print_norms(loaded, found)
        else:
            print_model(loaded)
            _print_implicit(loaded)
    except ModelError as error:
        if not error.others:
            raise
        print_refusals(error)
        return error.exit_status
    return 0


def _print_implicit(model: Model) -> None:
    """Of its implicit layers, where it has any."""
    from lipcert.errors import NotProvedError
    from lipcert.graph import FixedPoint

    if not any(isinstance(node, FixedPoint) for node in model.graph.nodes):
        return
    from lipcert.planning.well_posed import well_posedness
    from lipcert.report.inspection import print_layers

    try:
        print_layers(well_posedness(model.graph))
    except NotProvedError as reason:
        click.echo(reason.message)
