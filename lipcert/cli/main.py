"""The entry point: commands load lazily, every error is one line with a hint and an exit status."""

from __future__ import annotations

import importlib
import os
import sys
import traceback

import click

from lipcert.errors import LipcertError

_COMMANDS = {
    "bound": "Bound a network's Lipschitz constant, with a certificate.",
    "reach": "Bound where its outputs can go over a region, with a certificate.",
    "monotone": "Prove that outputs increase with inputs over a region.",
    "compare": "Bound two networks, and say whether the constant certainly changed.",
    "init": "Write a first policy for lipcert gate.",
    "gate": "Hold every network of a policy to its limits, in CI.",
    "certify": "Certify the robust accuracy of a classifier on data.",
    "check": "Re-verify a report against its model.",
    "report": "Show a stored report again, on the terminal or as an HTML page.",
    "inspect": "Show what lipcert sees in a model.",
}


class LazyGroup(click.Group):
    """Imports a command's module when it is asked for, so that --help needs none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        return getattr(importlib.import_module(f"lipcert.cli.{cmd_name}"), cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lipcert", prog_name="lipcert")
def cli() -> None:
    """Proved Lipschitz constants of neural networks.

    Exit status: 0 certified (with --template: conditional) and within every limit; 1 a limit is exceeded or a
    certificate refused; 2 wrong usage or an internal error; 3 an unreadable or unsupported model; 4 inconclusive.
    """


def main() -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status; a traceback only with --debug."""
    debug = "--debug" in arguments
    try:
        status = cli.main([a for a in arguments if a != "--debug"], prog_name="lipcert", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except LipcertError as error:
        if debug:
            traceback.print_exc()
        return _fail(str(error), error.exit_status)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "", err=True)
        return 2
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "lipcert"
        return _fail(f"{error.format_message()} (see `{command} --help`)", 2)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted before anything was certified", 4)
    except OSError as error:
        # the reader of a pipe has gone, or a disk is full: python must not try to flush again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _fail(f"cannot write the output: {error.strerror or error}", 2)
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _fail(f"internal error: {type(error).__name__}: {error} (run with --debug and report it)", 2)


def _fail(message: str, status: int) -> int:
    click.echo(f"lipcert: {' '.join(message.split())}", err=True)
    return status
