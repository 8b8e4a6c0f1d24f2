"""`lipcert init`: a first policy for `lipcert gate`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", default=".")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def init(folder: str, debug: bool) -> int:
    """Look at the models in FOLDER and write a commented lipcert.toml there, which `lipcert gate` passes."""
    from lipcert.cli.progress import progress
    from lipcert.errors import UsageError
    from lipcert.gate.files import Root, nearby
    from lipcert.gate.policy import FILE, policies
    from lipcert.gate.starter import look, starter
    from lipcert.report.writing import check_writable, write_text

    place = Path(folder)
    if not place.is_dir():
        raise UsageError(f"{folder}: there is no such folder")
    for existing in policies(place):
        raise UsageError(
            f"{existing}: there is a policy already", hint="`lipcert gate` runs it; remove it to start anew"
        )
    path = nearby(place.resolve()) / FILE
    check_writable(str(path), "init")
    with progress("look", enabled=True) as say:
        seen = look(Root(place.resolve()), on_step=lambda what: say(what, None))
    write_text(starter(seen), str(path), "init")
    bounded = sum(model.bound is not None for model in seen)
    print(f"{path}: {len(seen)} model{'s' if len(seen) != 1 else ''}, {bounded} with limits that a quick bound passes")
    print("next: lower the limits, run `lipcert gate`, and commit the file")
    return 0
