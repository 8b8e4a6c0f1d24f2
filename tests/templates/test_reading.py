"""Whatever is wrong with a template is said in one line that names the file, the table and the key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lipcert.errors import UsageError
from lipcert.templates import read_template, shipped
from lipcert.templates.library import folder

GOOD = """
name = "mine"
title = "An activation of my own"
activations = ["mine"]
group = "any"
note = "a note"

[source]
paper = "none"
theorem = "none"

[parameters.a]
kind = "entries"
meaning = "slopes"

[parameters.h]
kind = "unit"
meaning = "a direction"

[multipliers]
lambda = "nonnegative"
nu = "free"

[define]
K = "I - outer(h, h)"
T = "lambda*K"

[blocks]
VV = "T + nu*diag(a)"
VW = "0"
WW = "-T"

[linear]
v = "K"
w = "K"
"""

COMPLETE = """
name = "mine"
title = "An activation of my own"
activations = ["mine"]
group = 2
[source]
paper = "none"
theorem = "none"
[complete]
jacobians = ["I", "J - I"]
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def test_a_good_one_is_read(tmp_path: Path) -> None:
    found = read_template(written(tmp_path, GOOD))
    assert (found.name, found.groups, found.out, found.note) == ("mine", None, None, "a note")
    assert found.multipliers == {"lambda": "nonnegative", "nu": "free"}
    assert found.parameters["h"].kind == "unit"
    assert not found.is_complete
    assert found.origin == str(tmp_path / "mine.toml")
    complete = read_template(written(tmp_path, COMPLETE))
    assert complete.is_complete
    assert len(complete.conditions(2)) == 3


MISTAKES = [
    ('name = "mine"', "", ": name: it is missing"),
    ('name = "mine"', 'name = "a b"', ": name: 'a b' is no name"),
    ('name = "mine"', "name = 3", ": name: a string is expected"),
    ('title = "An activation of my own"', 'title = " "', ": title: it has 1 to"),
    ('note = "a note"', f'note = "{"x" * 2001}"', ": note: it has 1 to"),
    ('note = "a note"', 'colour = "red"', ": colour: the key is unknown"),
    ('activations = ["mine"]', "activations = []", ": activations: 1 to 16 names"),
    ('activations = ["mine"]', "activations = [1]", ": activations: 1 to 16 names"),
    ('activations = ["mine"]', 'activations = "mine"', ": activations: a list of names"),
    ('group = "any"', 'group = "all"', ": group: numbers from 1"),
    ('group = "any"', "group = 0", ": group: numbers from 1"),
    ('group = "any"', "group = 100000", ": group: numbers from 1"),
    ('group = "any"', "group = true", ": group: a number, a list"),
    ('group = "any"', "group = 1.5", ": group: a number, a list"),
    ('group = "any"', 'group = "any"\nout = -1', ": out: a number from 1"),
    ('group = "any"', 'group = "any"\nout = 1', ": blocks: WW: "),
    ('paper = "none"', "", ": source: paper: it is missing"),
    ('paper = "none"', 'paper = "none"\nyear = "2024"', ": source: year: the key is unknown"),
    ('kind = "entries"', 'kind = "matrix"', ": parameters: a: kind: 'matrix' is none of entries, unit"),
    ('meaning = "slopes"', "", ": parameters: a: meaning: it is missing"),
    ("[parameters.a]", "[parameters.I]", ": parameters: I: the name is taken"),
    ("[parameters.a]", "[parameters.b]", ": parameters: b: it is never used"),
    ("nu*diag(a)", "nu*diag(a*b)", ": blocks: VV: b is unknown"),
    ('lambda = "nonnegative"', 'lambda = "positive"', ": multipliers: lambda: 'positive' is none of"),
    ('lambda = "nonnegative"', "lambda = 1", ": multipliers: lambda: a string is expected"),
    ('lambda = "nonnegative"', 'lambda = "nonnegative"\nmu = "free"', ": multipliers: mu: it is never used"),
    ('lambda = "nonnegative"', 'lambda = "nonnegative"\na = "free"', ": multipliers: a: the name is used twice"),
    ('lambda = "nonnegative"', 'lambda = "nonnegative"\n"l 1" = "free"', ": multipliers: l 1: 'l 1' is no name"),
    ('K = "I - outer(h, h)"', 'K = "T"', ": define: K: T is defined later"),
    ('K = "I - outer(h, h)"', 'K = "K"', ": define: K: K is defined later, or by itself"),
    ('K = "I - outer(h, h)"', 'K = "I"', ": parameters: h: it is never used"),
    ('T = "lambda*K"', 'T = "lambda*K"\nS = "nu*K"', ": define: S: it is never used"),
    ('T = "lambda*K"', 'T = "lambda*"', ": define: T: it ends too early"),
    ('VW = "0"', "", ": blocks: VW: it is missing"),
    ('VW = "0"', 'VW = "0"\nWV = "0"', ": blocks: WV: the key is unknown"),
    ('VW = "0"', "VW = 0", ": blocks: VW: a string is expected"),
    ('VW = "0"', 'VW = "H"', ": blocks: VW: H is unknown"),
    ('VW = "0"', 'VW = "I"', ": blocks: VW: a term has no multiplier"),
    ('VW = "0"', 'VW = "9^999999*nu*I"', ": blocks: VW: the exponent 999999 is above"),
    ('VV = "T + nu*diag(a)"', 'VV = "T + nu*outer(a, h)"', ": blocks: VV: what nu multiplies is not symmetric"),
    ('VV = "T + nu*diag(a)"', 'VV = "T + (nu - nu)*diag(a)"', ": multipliers: nu: it is never used"),
    ('v = "K"', "", ": linear: v: it is missing"),
    ('v = "K"', 'v = "nu*I"', ": linear: multipliers have no place"),
    ('v = "K"', 'v = "K"\nu = "K"', ": linear: u: the key is unknown"),
    ("[linear]", "[complete]\njacobians = 'permutations'\n[linear]", ": multipliers: a complete template has none"),
]


@pytest.mark.parametrize(("old", "new", "words"), MISTAKES)
def test_a_mistake_is_named(old: str, new: str, words: str, tmp_path: Path) -> None:
    assert old in GOOD
    path = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(UsageError) as caught:
        read_template(path)
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('["I", "J - I"]', '"all"', ": complete: jacobians: 'all' is none of permutations, selections"),
        ('["I", "J - I"]', "[]", ": complete: jacobians: 1 to 120"),
        ('["I", "J - I"]', '["I", "lambda*I"]', ": complete: jacobians: number 2: lambda is unknown"),
        ('["I", "J - I"]', '["I", "I +"]', ": complete: jacobians: number 2: it ends too early"),
        ('["I", "J - I"]', '["I"]\nblock = 1', ": complete: block: the key is unknown"),
        ("group = 2", "group = 6", ""),
        ("group = 2", "group = 2\nout = 1", ": complete: jacobians: number 1: I is square"),
    ],
)
def test_a_mistake_of_a_complete_one_is_named(old: str, new: str, words: str, tmp_path: Path) -> None:
    text = COMPLETE.replace(old, new)
    if not words:
        text, words = text.replace('["I", "J - I"]', '"permutations"'), "a group of 6 has more than 120"
    with pytest.raises(UsageError) as caught:
        read_template(written(tmp_path, text))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"name = ", "it is no TOML"),
        (b"name = \xff", "it is not UTF-8"),
        (b"x = " + b"9" * 5000, "it is no TOML"),
        (b"x = " + b"[" * 20000, "it is no TOML"),
        (b"#" * 100000, "at most 65,536 bytes"),
    ],
)
def test_what_is_no_template_is_refused(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=words):
        read_template(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none.toml: No such file"):
        read_template(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="directory"):
        read_template(tmp_path)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_edited_templates_are_read_or_refused(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    text = data.draw(st.sampled_from([path.read_text() for path in sorted(folder().glob("*.toml"))]))
    start = data.draw(st.integers(0, len(text)))
    stop = min(len(text), start + data.draw(st.integers(0, 12)))
    put = data.draw(st.text(alphabet='IJ"=[]{}*+-^()0123456789.\nlambdv ', max_size=8))
    path = tmp_path_factory.mktemp("edited") / "edited.toml"
    path.write_text(text[:start] + put + text[stop:])
    try:
        found = read_template(path)
    except UsageError as refused:
        found, said = None, str(refused)
    assert said.startswith(str(path)) if found is None else (found.is_complete or found.multipliers)


def test_the_shipped_ones_are_found_in_a_checkout_and_in_a_wheel(tmp_path: Path) -> None:
    expected = "abs groupsort householder max_pool_pairs maxmin permutations slope_restricted"
    assert sorted(shipped()) == expected.split()
    package = tmp_path / "site" / "lipcert"
    (package / "sdp_templates").mkdir(parents=True)
    assert folder(package) == package / "sdp_templates"
    with pytest.raises(UsageError, match="the folder is missing"):
        folder(tmp_path / "other" / "lipcert")


def test_a_definition_that_grows_is_refused(tmp_path: Path) -> None:
    grown = "".join(f'D{i} = "D{i - 1}^4"\n' for i in range(1, 12))
    text = GOOD.replace("[define]", '[define]\nD0 = "9*a"\n' + grown).replace("diag(a)", "diag(D11)")
    with pytest.raises(UsageError, match="its numbers are too large"):
        read_template(written(tmp_path, text))


def test_a_definition_that_doubles_is_evaluated_once(tmp_path: Path) -> None:
    doubled = "".join(f'D{i} = "D{i - 1} + D{i - 1} + D{i - 1}"\n' for i in range(1, 14))
    text = GOOD.replace("[define]", '[define]\nD0 = "a"\n' + doubled).replace("diag(a)", "diag(D13)")
    found = read_template(written(tmp_path, text))
    matrix = found.basis(1, a=np.array([1.0]), h=np.array([1.0]))["nu"]
    assert matrix[0, 0] == 3.0**13
