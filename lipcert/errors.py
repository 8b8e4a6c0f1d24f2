"""The kinds of mistake that lipcert reports, each with the exit status that the command line gives it.

Every message is one line that names the file, node, op or option; `hint` says what to do about it.
"""

from __future__ import annotations

MAX_MESSAGE = 600
"""Characters of a message: names and shapes in a file may be of any length."""


def printable(text: str) -> str:
    """The text with line breaks and terminal commands, which names in a file may hold, spelled out; cut where long."""
    if len(text) > MAX_MESSAGE:
        text = f"{text[: MAX_MESSAGE // 2]} ... {text[-MAX_MESSAGE // 2 :]}"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class LipcertError(Exception):
    """Base of every error that a user can cause; `exit_status` follows docs/report.md."""

    exit_status = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        message = printable(message)
        super().__init__(message)
        self.message = message
        self.hint = printable(hint)

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(LipcertError):
    """A wrong option, argument or data file."""

    exit_status = 2


class ModelError(LipcertError):
    """A model that cannot be read, is malformed, or does not evaluate as its file says."""

    exit_status = 3
    others: tuple[ModelError, ...] = ()
    """Further problems of the same model, found in the same run."""


class UnsupportedModelError(ModelError):
    """A well-formed model with an op, attribute or shape that lipcert does not understand."""


class InconclusiveError(LipcertError):
    """Nothing was proven, and nothing is claimed: of a fixed point that is not shown to exist, say."""

    exit_status = 4


class CertificateError(LipcertError):
    """A certificate that does not prove what it claims: which inequality failed, and by how much."""

    exit_status = 1


class NotProvedError(CertificateError):
    """An inequality that the evidence was meant to prove and does not."""
