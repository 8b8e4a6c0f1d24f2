"""The templates that come with lipcert."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from lipcert.errors import UsageError
from lipcert.templates.reading import read_template
from lipcert.templates.template import Template

PACKAGE = Path(__file__).resolve().parents[1]


def shipped() -> dict[str, Template]:
    """All of them, by name."""
    return dict(_read())


@cache
def _read() -> dict[str, Template]:
    found = {}
    for path in sorted(folder().glob("*.toml")):
        template = read_template(path)
        if template.name != path.stem:
            raise UsageError(f"{path}: name: it is {template.name!r}, and the file is {path.name}")
        found[template.name] = template
    return found


def folder(package: Path = PACKAGE) -> Path:
    """In the wheel lipcert/sdp_templates; in a checkout the folder of that name beside lipcert."""
    for place in (package, package.parent):
        if (place / "sdp_templates").is_dir():
            return place / "sdp_templates"
    raise UsageError(f"{package}: sdp_templates: the folder is missing", hint="reinstall lipcert")
