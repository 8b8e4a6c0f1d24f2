"""A policy is read as it is written; every mistake in it is one error that names file, table and key."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import pytest

from lipcert.errors import UsageError
from lipcert.gate import files
from lipcert.gate.items import items_of, selected
from lipcert.gate.policy import find_policy, read_policy
from lipcert.problem import Margin, SomeOutputs
from tests.gate.conftest import Gate, write_policy
from tests.helpers.paths import MODELS, ROOT

CHECK = '[[check]]\nname = "a"\nmodels = "nets/small.onnx"\n'


def refused(folder: Path, text: str, *words: str) -> None:
    """The file and these words are in the error."""
    (folder / "lipcert.toml").write_text(text)
    with pytest.raises(UsageError) as raised:
        items_of(read_policy(folder / "lipcert.toml"))
    said = str(raised.value)
    for word in ("lipcert.toml", *words):
        assert word in said, said


def test_every_key_is_read(repository: Path) -> None:
    (repository / "points.csv").write_text("7,1,2,3,4\n7,4,3,2,1\n")
    (repository / "t.toml").write_text("")
    write_policy(
        repository,
        CHECK
        + 'norm_in = "inf"\ncenter = "points.csv"\nrows = "0:2"\nskip_columns = 1\nscale = 2\neps = 0.5\nball = 1\n'
        + 'margin = [0, 2]\ninputs = "x"\noutput = "y"\nexact = true\nmax_increase = 0\ntemplates = ["t.toml"]\n'
        + '[[check]]\nname = "b"\nmodels = ["nets/*.onnx"]\nbox = [0, 1]\noutputs = 1\nnorm = inf\ntimeout = 7\n',
        'norm = 1\ntimeout = 5\nmax = 3\ngap = 1.5\nstrict = true\nsolver = "scs"\nallow_inconclusive = true\n',
    )
    first, second = read_policy(repository / "lipcert.toml").checks
    assert (first.norm_in, first.norm_out, first.region.ball, first.rows) == (math.inf, 1.0, "1", range(2))
    assert first.region.center == str(repository / "points.csv")
    assert (first.region.eps, first.region.skip_columns, first.region.scale) == (0.5, 1, 2.0)
    assert (first.outputs, first.inputs, first.output) == (Margin(0, 2), ("x",), "y")
    assert (first.effort.exact, first.effort.timeout, first.effort.gap, first.effort.solver) == (True, 5.0, 1.5, "scs")
    assert (first.maximum, first.max_increase, first.strict, first.allow_inconclusive) == (3.0, 0.0, True, True)
    assert first.templates == (str(repository / "t.toml"),)
    assert (second.norm_in, second.norm_out, second.region.box) == (math.inf, math.inf, "0.0,1.0")
    assert (second.outputs, second.effort.timeout, second.max_increase) == (SomeOutputs((1,)), 7.0, None)
    lines = (repository / "lipcert.toml").read_text().splitlines()
    assert [number for number, line in enumerate(lines, 1) if line == "[[check]]"] == [first.line, second.line]


def test_pyproject_holds_a_policy_too(repository: Path) -> None:
    (repository / "lipcert.toml").unlink()
    with pytest.raises(UsageError, match="lipcert init"):
        find_policy(repository)
    (repository / "pyproject.toml").write_text(
        '[tool.other]\nx = 1\n[tool.lipcert]\ncache = "kept"\n[[tool.lipcert.check]]\n'
        'name = "a"\nmodels = "nets/*.onnx"\nmax = 2\n'
    )
    policy = read_policy(find_policy(repository))
    assert (policy.cache, policy.checks[0].line) == (repository / "kept", 5)
    assert [item.id for item in items_of(policy)] == ["a:nets/large.onnx", "a:nets/small.onnx"]
    write_policy(repository, CHECK)
    with pytest.raises(UsageError, match="both there"):
        find_policy(repository)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["[[check]]"]),
        ("check = 3", ["check", "not a list"]),
        ("check = [3]", ["check", "tables"]),
        ("[check]\nname = 'a'", ["check", "not a list"]),
        ("x = [[[", ["not TOML"]),
        ("x = " + "[" * 5000, ["not TOML"]),
        ("x = " + "9" * 5000, ["not TOML"]),
        ("baseline = 3\n" + CHECK + "max = 1", ["baseline", "not a text"]),
        ("basline = 'b'\n" + CHECK + "max = 1", ["'basline'", "did you mean baseline?"]),
        ("[defaults]\ncenter = 0\n" + CHECK + "max = 1", ["[defaults]", "'center'"]),
        (CHECK, ["[[check]] 'a'", "no limit"]),
        (CHECK + "maximum = 1", ["[[check]] 'a'", "'maximum'", "did you mean max?"]),
        (CHECK + "max = true", ["[[check]] 'a'", "max: True is not a number"]),
        (CHECK + "max = '1'", ["max: '1' is not a number"]),
        (CHECK + "max = nan", ["max: nan is not a finite number"]),
        (CHECK + "max = inf", ["max: inf is not a finite number"]),
        (CHECK + "max = 1" + "0" * 400, ["max", "not a finite number"]),
        (CHECK + "max = -1", ["max: -1 is below 0"]),
        (CHECK + "max_increase = -0.5", ["max_increase: -0.5 is below 0"]),
        (CHECK + "max = 1\nnorm = 3", ["[[check]] 'a'", "norm", "'3' is not a norm"]),
        (CHECK + "max = 1\nnorm_in = [2]", ["norm_in: is not a norm"]),
        (CHECK + "max = 1\nmethod = 'lipsd'", ["method: 'lipsd'", "did you mean lipsdp?"]),
        (CHECK + "max = 1\nsolver = 'cplex'", ["solver: 'cplex'"]),
        (CHECK + "max = 1\nstrict = 1", ["strict: 1 is not true or false"]),
        (CHECK + "max = 1\ntimeout = -1", ["timeout: -1 is below 0"]),
        (CHECK + "max = 1\ngap = 0.5", ["gap: 0.5 is below 1"]),
        (CHECK + "max = 1\neps = 0.1", ["[[check]] 'a'", "a ball needs both center and eps"]),
        (CHECK + "max = 1\ncenter = 0", ["a ball needs both center and eps"]),
        (CHECK + "max = 1\ncenter = [0, nan]\neps = 1", ["center: nan is not a finite number"]),
        (CHECK + "max = 1\ncenter = []\neps = 1", ["center: is an empty list"]),
        (CHECK + "max = 1\ncenter = 'p.csv'\neps = 1", ["[[check]] 'a'", "center", "'p.csv'", "no such file"]),
        (CHECK + "max = 1\ncenter = 0\neps = 1\nbox = [0, 1]", ["center and box both give a region"]),
        (CHECK + "max = 1\nbox = '0,1'", ["box: is not [lower, upper]"]),
        (CHECK + "max = 1\nbox = [[0, 1], 1]", ["box: an end is one number"]),
        (CHECK + "max = 1\nrow = 3", ["row describes the file of center"]),
        (CHECK + "max = 1\nskip_columns = 1", ["skip_columns describes the file of center"]),
        (CHECK + "max = 1\nrows = '0:2'", ["rows", "center, which is not given"]),
        (CHECK + "max = 1\nrows = '2:0'\ncenter = 0\neps = 1", ["rows: '2:0' is not A:B"]),
        (CHECK + "max = 1\nrow = 1\nrows = '0:2'\ncenter = 0\neps = 1", ["row and rows both choose rows"]),
        (CHECK + "max = 1\nrows = '0:999999999'\ncenter = 0\neps = 1", ["more than 10000 questions"]),
        (CHECK + "max = 1\nmargin = [1]", ["margin: is not a pair"]),
        (CHECK + "max = 1\nmargin = [1, 1]", ["margin"]),
        (CHECK + "max = 1\noutputs = 1\nmargin = [0, 1]", ["outputs and margin both choose outputs"]),
        (CHECK + "max = 1\noutputs = [1.5]", ["outputs: is not an integer"]),
        (CHECK + "max = 1\ninputs = []", ["inputs: is an empty list"]),
        (CHECK + "max = 1\ntemplates = ['t.toml']", ["'t.toml'", "no such file"]),
        (CHECK + "max = 1\n" + CHECK + "max = 2", ["[[check]] 2", "name: 'a'"]),
        ("[[check]]\nmodels = 'x'\nmax = 1", ["[[check]] 1", "name is missing"]),
        ("[[check]]\nname = 'a'\nmax = 1", ["[[check]] 'a'", "models is missing"]),
        ("[[check]]\nname = '../a'\nmodels = 'x'\nmax = 1", ["name: is not made of letters"]),
        ("[[check]]\nname = 7\nmodels = 'x'\nmax = 1", ["[[check]] 1", "name: 7 is not a text"]),
        ("[[check]]\nname = 'a'\nmodels = 3\nmax = 1", ["models: is not a text or a list of texts"]),
    ],
)
def test_a_mistake_is_named(repository: Path, text: str, words: list[str]) -> None:
    refused(repository, text, *words)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nets/absent.onnx", ["no such file"]),
        ("nets", ["no such file"]),
        ("nets/*.pt", ["finds no file"]),
        ("../*.onnx", ["leads out of the folder"]),
        ("../../x.onnx", ["leads out of the folder"]),
        ("/etc/passwd", ["leads out of the folder"]),
        ("/**/*", ["leads out of the folder"]),
        ("nets/link.onnx", ["leads out of the folder"]),
        ("nets/l*.onnx", ["leads out of the folder"]),
        ("nets/*/../../../x", ["no pattern"]),
        ("**/**/*.onnx", ["more than one **"]),
        (r"nets/a\\u0000b", ["no name of a file"]),
        (r"nets/a\\nb", ["no name of a file"]),
        ("nets/loop", ["nets/loop"]),
    ],
)
def test_models_are_looked_for_inside_the_folder(repository: Path, name: str, words: list[str]) -> None:
    (repository.parent / "elsewhere.onnx").write_bytes(b"")
    (repository / "nets" / "link.onnx").symlink_to(repository.parent / "elsewhere.onnx")
    (repository / "nets" / "loop").symlink_to(repository / "nets" / "loop")
    text = f'[[check]]\nname = "a"\nmodels = "{name}"\nmax = 1\n'.replace(r"\\", "\\")
    refused(repository, text, "'a'", "models", *words)


def test_a_policy_may_allow_names_that_lead_out(repository: Path) -> None:
    os.rename(repository / "nets", repository.parent / "nets")
    text = "allow_outside = true\n[[check]]\nname = 'a'\nmodels = ['../nets/s*.onnx', '{}/large.onnx']\nmax = 1\n"
    (repository / "lipcert.toml").write_text(text.format(repository.parent / "nets"))
    items = items_of(read_policy(repository / "lipcert.toml"))
    assert [item.shown for item in items] == ["../nets/small.onnx", "../nets/large.onnx"]


def test_other_places_are_inside_the_folder_too(repository: Path) -> None:
    for key in ("cache", "baseline"):
        refused(repository, f'{key} = "../out"\n{CHECK}max = 1\n', key, "leads out of the folder")


def test_patterns_find_files_in_folders_but_no_hidden_ones(repository: Path) -> None:
    for name in (".hidden/a.onnx", "nets/deep/b.onnx", "nets/.c.onnx"):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_bytes(b"")
    root = files.Root(repository)
    assert [root.shown(path) for path in root.files("**/*.onnx")] == [
        "nets/deep/b.onnx",
        "nets/large.onnx",
        "nets/small.onnx",
    ]
    assert [root.shown(path) for path in root.files("n*/[l-z]*.onnx")] == ["nets/large.onnx", "nets/small.onnx"]
    assert [root.shown(path) for path in root.files("nets/deep/**")] == ["nets/deep/b.onnx"]


def test_huge_patterns_are_refused(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_VISITED", 3)
    refused(repository, '[[check]]\nname = "a"\nmodels = "**/*.onnx"\nmax = 1\n', "looks at more than 3 files")
    monkeypatch.undo()
    monkeypatch.setattr(files, "MAX_MATCHES", 1)
    refused(repository, '[[check]]\nname = "a"\nmodels = "nets/*"\nmax = 1\n', "finds more than 1 files")


def test_selections(repository: Path) -> None:
    items = items_of(read_policy(repository / "lipcert.toml"))
    assert [i.shown for i in selected(items, ["nets/small.onnx"])] == ["nets/small.onnx"]
    assert [i.id for i in selected(items, ["*large*", "global:*small*"])] == [i.id for i in items]
    assert selected(items, ["global"]) == items
    with pytest.raises(UsageError, match=r"'globl'.*did you mean global\?"):
        selected(items, ["globl"])


def test_the_same_model_is_asked_about_once_in_a_check(repository: Path) -> None:
    models = '["nets/small.onnx", "nets/*", "./nets//*.onnx", "nets/../nets/large.onnx"]'
    write_policy(repository, f'[[check]]\nname = "a"\nmodels = {models}\nmax = 1\n')
    items = items_of(read_policy(repository / "lipcert.toml"))
    assert [item.shown for item in items] == ["nets/small.onnx", "nets/large.onnx"]


def test_a_policy_that_is_no_file(gate: Gate, repository: Path) -> None:
    assert "No such file" in gate("--config", "absent.toml").error()
    assert "Is a directory" in gate("--config", "nets").error()
    (repository / "lipcert.toml").write_bytes(b"\xff\xfe")
    assert "not TOML" in gate().error()
    (repository / "lipcert.toml").write_bytes(b"#" * 2_000_000)
    assert "larger than" in gate().error()
    (repository / "pyproject.toml").write_text("tool = 3\n")
    (repository / "lipcert.toml").unlink()
    assert "tool is not a table" in gate().error()


@pytest.mark.parametrize("path", [ROOT / "docs" / "gate.md"], ids=lambda path: path.name)
def test_the_policies_of_the_docs_are_read(path: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks
    for name in ("digits.csv", "property.vnnlib", "lower.npy", "upper.npy"):
        (tmp_path / name).write_text("")
    for block in blocks:
        file = tmp_path / ("pyproject.toml" if "[tool.lipcert" in block else "lipcert.toml")
        file.write_text(block)
        assert read_policy(file).checks
    assert read_policy(MODELS / "ci-example" / "lipcert.toml").checks
