"""What the documentation shows is what happens: examples in docstrings, commands and code of README and tutorial."""

from __future__ import annotations

import doctest
import pkgutil
import re
import shlex
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import click
import numpy as np
import pytest

import lipcert
from lipcert import api
from lipcert.cli.main import cli, run
from tests.helpers.paths import MODELS, ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
TIMED = ("bound", "reach", "monotone", "compare", "certify")
"""Commands that would take longer than there is time for here."""

DOCS = ROOT / "docs"


def blocks_of(page: str) -> list[tuple[str, str]]:
    """The language and the text of every fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


BLOCKS = blocks_of(README)


def examples_in(module: ModuleType) -> list[doctest.DocTest]:
    names = {"np": np, "lipcert": lipcert}
    return [test for test in doctest.DocTestFinder().find(module, extraglobs=names) if test.examples]


def modules_of(package: ModuleType) -> list[ModuleType]:
    return [import_module(f"{package.__name__}.{module.name}") for module in pkgutil.iter_modules(package.__path__)]


EXAMPLES = [test for module in (lipcert, *modules_of(api)) for test in examples_in(module)]


@pytest.mark.parametrize("test", EXAMPLES, ids=lambda test: test.name)
def test_the_examples_in_docstrings(test: doctest.DocTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    said: list[str] = []
    outcome = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append, clear_globs=False)
    assert outcome.attempted > 0
    assert outcome.failed == 0, "".join(said)


def test_every_function_of_the_api_has_an_example() -> None:
    shown = {test.name.rpartition(".")[2] for test in EXAMPLES}
    assert set(api.__all__) - {"read_report"} <= shown


def commands() -> Iterator[list[str]]:
    """Every command of lipcert in a code block of the README, with or without a prompt."""
    for language, block in BLOCKS:
        if language in ("", "sh", "bash", "console", "shell"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line.removeprefix("$ "), comments=True) if "lipcert " in line else []
                if words[:1] == ["lipcert"]:
                    yield words[1:]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the sample networks, and the files that the README takes as the reader's own."""
    (tmp_path / "models").symlink_to(MODELS)
    shutil.copy(MODELS / "digits_relu.onnx", tmp_path / "model.onnx")
    inputs = "\n".join(f"(declare-const X_{i} Real) (assert (>= X_{i} 0.0)) (assert (<= X_{i} 1.0))" for i in range(64))
    (tmp_path / "property.vnnlib").write_text(f"{inputs}\n(declare-const Y_0 Real)\n(assert (>= Y_0 0.0))\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme_shows_every_command() -> None:
    assert {words[0] for words in commands()} >= {"bound", "check", "inspect", "reach"}
    assert any("models/" in word for words in commands() for word in words)


def test_the_commands_of_the_readme(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In order: some write what others read. Those about files that are not in the repository are left out."""
    for words in commands():
        missing = [word for word in words if word.startswith("../")]
        if not missing:
            status = run([*words, *(("--timeout", "3") if words[0] in TIMED else ())])
            refuted = status == 1 and words[0] == "monotone"  # an answer
            assert refuted or status == 0, shlex.join(words)
            assert capsys.readouterr().err == ""


def test_the_python_of_the_readme(folder: Path) -> None:
    for language, block in BLOCKS:
        if language == "python":
            exec(compile(block, "README.md", "exec"), {"x": np.zeros(64), "np": np})


def test_the_output_that_the_readme_shows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All but the numbers, which depend on the machine."""
    for _, block in BLOCKS:
        first, _, shown = block.partition("\n")
        if first.startswith("$ lipcert ") and shown.strip():
            assert run(shlex.split(first)[2:]) == 0
            assert _without_numbers(capsys.readouterr().out) == _without_numbers(shown)


def _without_numbers(text: str) -> list[str]:
    number = r"-?\d+(\.\d+)?(e[+-]\d+)?"
    return [" ".join(re.sub(number, "#", line).split()) for line in text.splitlines() if line.strip()]


def test_the_tutorial(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From its top to its end: commands have the status and the output that are shown, blocks of Python run."""
    python: dict[str, object] = {}
    for language, block in blocks_of((DOCS / "tutorial.md").read_text(encoding="utf-8")):
        if language == "python":
            exec(compile(block, "tutorial.md", "exec"), python)
            capsys.readouterr()
            continue
        assert language == "console"
        shown = [entry.partition("\n")[::2] for entry in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
        for (command, output), (then, status) in zip(shown, [*shown[1:], ("", "")], strict=True):
            if command == "echo $?":
                continue
            words = shlex.split(command)
            assert words[0] == "lipcert"
            assert run(words[1:]) == (int(status) if then == "echo $?" else 0), command
            printed = capsys.readouterr()
            assert _without_numbers(printed.out) == _without_numbers(output), command
            assert printed.err == ""
    assert "<script" not in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_commands_have_the_options_that_pages_show(page: Path) -> None:
    """Of every page, also where the files are the reader's: parsed, not run."""
    for line in re.findall(r"^[ $]*lipcert (.*)", page.read_text(encoding="utf-8"), re.MULTILINE):
        words = [word for word in shlex.split(line, comments=True) if word != "..."]
        command = cli.get_command(click.Context(cli), words[0])
        assert command is not None, line
        command.make_context(words[0], words[1:], resilient_parsing="..." in line)


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    listed = re.findall(r"^ +- .*: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in DOCS.glob("*.md"))


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Those of docs/ stay in docs/, so that they hold on the site, too."""
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
        assert page.parent == ROOT or not target.startswith(".."), target


def test_every_function_of_the_api_is_on_its_page() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    assert {name for name in lipcert.__all__ if not re.search(rf"\b{name}\b", page)} == set()
