"""`--template`: a custom op by a quadratic constraint, from the command line. Conditional, never certified."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import onnx
import pytest
from onnx import helper

import lipcert as api
from lipcert.report.schema import report_schema
from lipcert.templates import parse_template
from tests.cli.conftest import Command
from tests.helpers.loop_models import PASSED_ON, F, loop_of
from tests.helpers.onnx_models import model, random_weights, save

BENT = """
name = "bent"
title = "Slopes from -0.1 to 1.1"
activations = ["com.example.Bent"]
group = 1

[source]
paper = "our own"
theorem = "its derivative lies in [-0.1, 1.1]"

[multipliers]
lambda = "nonnegative"

[blocks]
VV = "0.22*lambda*I"
VW = "lambda*I"
WW = "-2*lambda*I"
"""

node = helper.make_node


@pytest.fixture(scope="module")
def bent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with two layers of com.example.Bent, 4 inputs and 3 outputs."""
    weights = {"a": random_weights(4, 6), "b": random_weights(6, 6, seed=2), "c": random_weights(6, 3, seed=3)}
    nodes = [
        node("MatMul", ["x", "a"], ["v"]),
        node("Bent", ["v"], ["p"], name="first", domain="com.example"),
        node("MatMul", ["p", "b"], ["h"]),
        node("Bent", ["h"], ["q"], name="second", domain="com.example"),
        node("MatMul", ["q", "c"], ["y"]),
    ]
    proto = model(nodes, {"x": (1, 4)}, ["y"], weights, domains={"com.example": 1})
    return save(proto, tmp_path_factory.mktemp("bent"), "bent.onnx")


def looped(op: str, **attributes: Any) -> onnx.ModelProto:
    """z = op(A z + u) by a Loop of 20 steps."""
    body = [*F[:2], node(op, ["v"], ["z_next"], "custom", domain="com.example", **attributes), PASSED_ON]
    return loop_of(body, domains={"com.example": 1})


@pytest.mark.parametrize("how", [[], ["--norm", "inf"], ["--unrolled"]])
def test_an_op_inside_of_a_loop_is_conditional(
    lipcert: Command, tmp_path: Path, template: Path, how: list[str]
) -> None:
    path = save(looped("Bent"), tmp_path)
    run = lipcert("bound", path, "--template", template, *how)
    assert run.status == 0, run.err
    assert "conditional" in run.out
    assert "certified" not in run.out


def test_what_is_not_known_of_an_op_inside_of_a_loop_is_refused(
    lipcert: Command, tmp_path: Path, template: Path
) -> None:
    """Boxes; what it is without the template; a linear part, which would pass the state on without an activation."""
    path = save(looped("Bent"), tmp_path)
    for how, status, words in (
        (["reach", path, "--center", 0, "--eps", 0.1, "--template", template], 4, "--unrolled"),
        (["bound", path], 3, "--template"),
    ):
        run = lipcert(*how)
        assert run.status == status
        assert words in run.err
    shipped = (Path(__file__).parents[2] / "sdp_templates" / "maxmin.toml").read_text()
    mine = tmp_path / "mine.toml"
    own = {'"maxmin", "groupsort"': '"com.example.Sort"', 'name = "maxmin"': 'name = "mine"'}
    for theirs, ours in own.items():
        shipped = shipped.replace(theirs, ours)
    mine.write_text(shipped)
    run = lipcert("bound", save(looped("Sort", group=2), tmp_path, "sort.onnx"), "--template", mine)
    assert run.status == 3
    assert "leave [linear] out" in run.err


@pytest.fixture
def template(tmp_path: Path) -> Path:
    (tmp_path / "bent.toml").write_text(BENT)
    return tmp_path / "bent.toml"


def written(path: Path) -> dict[str, Any]:
    """A report, which is valid by the schema."""
    data = json.loads(path.read_text())
    jsonschema.Draft202012Validator(report_schema()).validate(data)
    return data


def test_the_verdict_says_what_it_rests_on(lipcert: Command, bent: Path, template: Path) -> None:
    done = lipcert("bound", bent, "--template", template)
    assert (done.status, done.err) == (0, "")
    words = done.out.split()
    assert "conditional" in words
    assert "assumes" in words
    assert "bent is true of com.example.Bent" in done.out
    assert "certified" not in done.out
    assert "\x1b" not in done.out


def test_the_report_quotes_the_template(lipcert: Command, bent: Path, template: Path, tmp_path: Path) -> None:
    done = lipcert("bound", bent, "--template", template, "--json", tmp_path / "out.json")
    assert (done.status, done.err) == (0, "")
    data = written(tmp_path / "out.json")
    assert data["result"]["status"] == "conditional"
    assert data["model"]["templates"] == [
        {"name": "bent", "title": "Slopes from -0.1 to 1.1", "ops": ["com.example.Bent"], "text": BENT}
    ]
    states = {attempt["status"] for attempt in data["attempts"]}
    assert "conditional" in states
    assert "certified" not in states
    assert '"certified"' not in (tmp_path / "out.json").read_text()


def test_the_report_is_checked_without_the_file(lipcert: Command, bent: Path, template: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert lipcert("bound", bent, "--template", template, "--json", out).status == 0
    template.unlink()
    for strict in ([], ["--strict"]):
        done = lipcert("check", *strict, out, bent)
        assert (done.status, done.err) == (0, "")
        assert "verified if" in done.out
        assert "bent is true of com.example.Bent" in done.out
        assert "certified" not in done.out
    assert lipcert("check", "--quiet", out, bent).out == ""


@pytest.mark.parametrize("option", ["--json", "--certificate"])
def test_both_ways_to_write_are_conditional(lipcert: Command, bent: Path, template: Path, option: str) -> None:
    done = lipcert("bound", bent, "--template", template, option, "-")
    assert (done.status, done.err) == (0, "")
    assert json.loads(done.out)["result"]["status"] == "conditional"


@pytest.mark.parametrize(("limit", "status"), [(1e6, 0), (1, 1), (0, 1)])
def test_a_limit(lipcert: Command, bent: Path, template: Path, limit: float, status: int) -> None:
    done = lipcert("bound", bent, "--template", template, "--max", limit)
    assert done.status == status
    assert ("within" in done.out and "not within" not in done.out) == (status == 0)
    assert "certified" not in done.out


def test_quiet_prints_the_number_alone(lipcert: Command, bent: Path, template: Path) -> None:
    done = lipcert("bound", bent, "--template", template, "--quiet")
    assert (done.status, done.err) == (0, "")
    assert done.out == f"{float(done.out)!r}\n"


@pytest.mark.parametrize(
    "options",
    [
        ["--norm", "inf"],
        ["--norm-in", "1", "--norm-out", "inf"],
        ["--center", "0", "--eps", "0.1"],
        ["--box", "0,1"],
        ["--outputs", "0"],
        ["--margin", "0,1"],
        ["--method", "lipsdp"],
    ],
    ids=" ".join,
)
def test_every_question_is_answered_conditionally(
    lipcert: Command, bent: Path, template: Path, tmp_path: Path, options: list[str]
) -> None:
    out = tmp_path / "out.json"
    done = lipcert("bound", bent, "--template", template, "--json", out, *options)
    assert (done.status, done.err) == (0, "")
    assert written(out)["result"]["status"] == "conditional"
    assert lipcert("check", out, bent).status == 0


@pytest.mark.parametrize("region", [[], ["--center", "0", "--eps", "0.1"]], ids=["whole", "ball"])
@pytest.mark.parametrize("method", ["product", "gram"])
def test_other_methods_say_that_only_lipsdp_uses_templates(
    lipcert: Command, bent: Path, template: Path, tmp_path: Path, method: str, region: list[str]
) -> None:
    done = lipcert("bound", bent, "--template", template, "--method", method, "--json", tmp_path / "out.json", *region)
    assert done.status == 4
    assert all(word in done.out for word in ("inconclusive", "template bent", "LipSDP only"))
    assert "region" not in done.out.replace("region of", "")
    assert written(tmp_path / "out.json")["result"]["status"] == "inconclusive"


@pytest.mark.parametrize("solver", ["clarabel", "scs"])
def test_another_solver_certifies_nothing(lipcert: Command, bent: Path, template: Path, solver: str) -> None:
    """It knows no templates: it is not left out in silence."""
    done = lipcert("bound", bent, "--template", template, "--solver", solver)
    assert done.status in (2, 3, 4)
    assert "Lipschitz constant at most" not in done.out


def test_another_solver_is_named_as_the_reason(lipcert: Command, bent: Path, template: Path) -> None:
    done = lipcert("bound", bent, "--template", template, "--solver", "clarabel")
    assert "clarabel" in done.out + done.err


def test_no_time_is_inconclusive(lipcert: Command, bent: Path, template: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = lipcert("bound", bent, "--template", template, "--timeout", 0, "--json", out)
    assert done.status == 4
    assert written(out)["result"]["status"] == "inconclusive"


def edited(old: str, new: str) -> str:
    assert old in BENT
    return BENT.replace(old, new)


MALFORMED: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "no TOML": ("name = ", ("no TOML",)),
    "nothing": ("", ("missing",)),
    "binary": (b"\xff\xfe\x00", ("UTF-8",)),
    "too long": ("#" * 2**17, ("65,536",)),
    "a key too many": (edited('title = "S', 'weight = 1\ntitle = "S'), ("weight",)),
    "no source": (edited("[source]", "[sources]"), ("source",)),
    "no block": (edited('WW = "-2*lambda*I"', ""), ("blocks", "WW")),
    "a name that is none": (edited('"0.22*lambda*I"', '"0.22*mu*I"'), ("blocks", "VV", "mu")),
    "code": (edited('"0.22*lambda*I"', '"__import__(lambda)"'), ("blocks", "VV")),
    "a sign that is none": (edited('"nonnegative"', '"positive"'), ("multipliers", "lambda")),
    "a group of none": (edited("group = 1", "group = 0"), ("group",)),
    "an op that is none": (edited('"com.example.Bent"', '"com example"'), ("activations",)),
    "no ops": (edited('["com.example.Bent"]', "[]"), ("activations",)),
    "ops in no list": (edited('["com.example.Bent"]', "1"), ("activations",)),
    "not symmetric": (
        edited("group = 1", "group = 2").replace("0.22*lambda*I", "0.22*lambda*outer(ones, e)"),
        ("blocks", "VV"),
    ),
    "without multiplier": (edited('"0.22*lambda*I"', '"0.22*I"'), ("blocks", "VV", "multiplier")),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_template_is_one_line_that_names_file_and_key(
    lipcert: Command, bent: Path, tmp_path: Path, name: str
) -> None:
    text, words = MALFORMED[name]
    path = tmp_path / "bad.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = lipcert("bound", bent, "--template", path, "--json", tmp_path / "out.json")
    assert done.status == 2
    message = done.error()
    assert all(word in message for word in (str(path), *words)), message
    assert os.listdir(tmp_path) == ["bad.toml"]


def test_a_file_that_cannot_be_read(lipcert: Command, bent: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "missing.toml", tmp_path):
        done = lipcert("bound", bent, "--template", path, "--json", tmp_path / "out.json")
        assert done.status == 2
        assert str(path) in done.error()
        assert os.listdir(tmp_path) == []


def test_a_template_for_no_node(lipcert: Command, relu: Path, bent: Path, template: Path, tmp_path: Path) -> None:
    """Also one for an op that lipcert knows by itself."""
    known = tmp_path / "relu.toml"
    known.write_text(edited("com.example.Bent", "Relu"))
    for path, network, op in ((template, relu, "com.example.Bent"), (known, relu, "Relu")):
        done = lipcert("bound", network, "--template", path, "--json", tmp_path / "out.json")
        assert done.status == 2
        message = done.error()
        assert all(word in message for word in (str(path), op))
    assert lipcert("bound", bent, "--template", template, "--template", known).status == 2
    assert sorted(os.listdir(tmp_path)) == ["bent.toml", "relu.toml"]


def test_two_templates_for_one_op(lipcert: Command, bent: Path, template: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.toml"
    again.write_text(edited('name = "bent"', 'name = "again"'))
    for second in (again, template):
        done = lipcert("bound", bent, "--template", template, "--template", second)
        assert done.status == 2
        message = done.error()
        assert all(word in message for word in (str(second), "activations", "com.example.Bent", str(template)))


def test_a_model_that_needs_a_template_is_told_so(lipcert: Command, bent: Path) -> None:
    for command in ("bound", "inspect"):
        done = lipcert(command, bent)
        assert done.status == 3
        text = done.out + done.err
        assert all(word in text for word in ("Bent", "first", "--template"))


def test_inspect_shows_the_node_and_its_template(lipcert: Command, bent: Path, template: Path) -> None:
    done = lipcert("inspect", bent, "--template", template)
    assert (done.status, done.err) == (0, "")
    assert "com.example.Bent (template bent)" in " ".join(done.out.split())
    norms = lipcert("inspect", bent, "--norms", "--template", template)
    assert norms.status == 0


def test_inspect_refuses_as_bound_does(lipcert: Command, bent: Path, relu: Path, template: Path) -> None:
    cases: list[tuple[Path, list[object]]] = [
        (relu, ["--template", template]),
        (bent, ["--template", template, "--template", template]),
        (bent, ["--template", template.parent]),
    ]
    for network, options in cases:
        messages = []
        for command in ("bound", "inspect"):
            done = lipcert(command, network, *options)
            assert done.status == 2
            messages.append(done.error())
        assert messages[0] == messages[1]


def test_names_in_a_template_cannot_command_a_terminal(lipcert: Command, bent: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(edited('title = "Slopes', 'title = "\\u001b[2J Slopes'))
    done = lipcert("bound", bent, "--template", path)
    assert "\x1b" not in done.out + done.err


Edit = Callable[[dict[str, Any]], Any]


def text_edit(old: str, new: str) -> Edit:
    assert old in BENT
    return lambda d: d["model"]["templates"][0].update(text=BENT.replace(old, new))


TAMPERED: dict[str, tuple[Edit, str]] = {
    "a weaker template": (text_edit('"0.22*lambda*I"', '"5*lambda*I"'), "not proven"),
    "a malformed template": (text_edit("[blocks]", "[block]"), "template"),
    "no text": (lambda d: d["model"]["templates"][0].pop("text"), "model.templates"),
    "no list": (lambda d: d["model"].update(templates="bent"), "model.templates"),
    "null": (lambda d: d["model"].update(templates=None), "no templates"),
    "said to be certified": (lambda d: d["result"].update(status="certified"), "certified"),
    "a lower bound": (lambda d: d["result"].update(upper=d["result"]["upper"] / 2), "result.upper"),
}


@pytest.fixture(scope="module")
def honest(bent: Path) -> dict[str, Any]:
    return json.loads(api.bound(bent, templates=[parse_template(BENT, "bent.toml")]).to_json())


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_report_is_refused(
    lipcert: Command, honest: dict[str, Any], bent: Path, tmp_path: Path, name: str
) -> None:
    edit, words = TAMPERED[name]
    data = json.loads(json.dumps(honest))
    edit(data)
    (tmp_path / "edited.json").write_text(json.dumps(data))
    done = lipcert("check", tmp_path / "edited.json", bent)
    assert done.status == 1
    assert words in done.error()


def test_another_file_is_refused(
    lipcert: Command, honest: dict[str, Any], bent: Path, relu: Path, tmp_path: Path
) -> None:
    """A copy with another weight, and a model without custom ops."""
    out = tmp_path / "out.json"
    out.write_text(json.dumps(honest))
    changed = bytearray(bent.read_bytes())
    place = bytes(changed).index(random_weights(4, 6).tobytes())
    changed[place + 2] ^= 1
    (tmp_path / "changed.onnx").write_bytes(bytes(changed))
    done = lipcert("check", out, tmp_path / "changed.onnx")
    assert done.status == 1
    assert "another model" in done.error()
    assert lipcert("check", out, relu).status != 0


def test_a_page_says_that_it_rests_on_the_template(
    lipcert: Command, bent: Path, template: Path, tmp_path: Path
) -> None:
    lipcert("bound", bent, "--template", template, "--json", tmp_path / "r.json", "--timeout", 5)
    done = lipcert("report", tmp_path / "r.json", "--html", "-", "--model", bent)
    assert done.status == 0
    assert "if what it assumes is true" in done.out
    assert "that the template bent is true of com.example.Bent: nothing here proves that" in done.out
    assert "Certified means" not in done.out


def test_a_comparison_rests_on_the_template(lipcert: Command, bent: Path, template: Path) -> None:
    done = lipcert("compare", bent, bent, "--template", template, "--timeout", 3)
    assert done.status == 0
    assert "assumes" in done.out
    assert done.out.count("conditional") == 2
