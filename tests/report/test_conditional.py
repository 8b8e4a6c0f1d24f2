"""Reports that rest on a user's templates: what they say, and which of them `check` refuses."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from typing import Any

import jsonschema
import onnx
import pytest
from onnx import helper

import lipcert
from lipcert.errors import CertificateError, LipcertError, NotProvedError
from lipcert.frontend import load_proto
from lipcert.report import Report
from lipcert.report.schema import report_schema
from lipcert.templates import Template, parse_template
from lipcert.templates.library import folder
from tests.helpers.onnx_models import model, random_weights

Data = dict[str, Any]
Edit = Callable[[Data], Any]

node = helper.make_node


def renamed(name: str, *ops: str) -> Template:
    """A shipped template under another name, for these ops."""
    text = (folder() / f"{name}.toml").read_text()
    for key, value in (("name", f"my_{name}"), ("activations", list(ops))):
        text = re.sub(rf"^{key} = .*$", f"{key} = {json.dumps(value)}", text, count=1, flags=re.MULTILINE)
    return parse_template(text, f"my_{name}.toml")


def network(*ops: tuple[str, str], functions: tuple[onnx.FunctionProto, ...] = ()) -> onnx.ModelProto:
    """Layers of 6 between 4 inputs and 2 outputs, with these (domain, op) behind them."""
    nodes, last = [node("MatMul", ["x", "first"], ["v0"])], "v0"
    for i, (domain, op) in enumerate(ops):
        nodes.append(node(op, [last], [f"a{i}"], name=f"act{i}", domain=domain))
        last = f"v{i + 1}"
        nodes.append(node("MatMul", [f"a{i}", "between"], [last]))
    nodes.append(node("MatMul", [last, "last"], ["y"]))
    weights = {
        "first": random_weights(4, 6),
        "between": random_weights(6, 6, seed=2),
        "last": random_weights(6, 2, seed=3),
    }
    return model(nodes, {"x": (1, 4)}, ["y"], weights, functions=functions, domains={"com.example": 1})


SORT, BEND, PLAIN = ("com.example", "Sort"), ("com.example", "Bend"), ("", "Relu")
TEMPLATES = (renamed("groupsort", "com.example.Sort"), renamed("abs", "com.example.Bend"))
BOTH = network(BEND, SORT)


def data_of(report: Report) -> Data:
    return json.loads(report.to_json())


def errors(data: Data) -> list[str]:
    validator = jsonschema.Draft202012Validator(report_schema())
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(data)]


@pytest.fixture(scope="module")
def honest() -> Data:
    """About a network with two kinds of custom ops."""
    return data_of(lipcert.bound(BOTH, templates=TEMPLATES))


@pytest.fixture(scope="module")
def certified() -> Data:
    return data_of(lipcert.bound(network(PLAIN)))


def edited(data: Data, edit: Edit) -> Report:
    changed = copy.deepcopy(data)
    edit(changed)
    return Report(changed)


def assert_refused(report: Report, proto: onnx.ModelProto, *words: str) -> CertificateError:
    """One line, exit status 1."""
    with pytest.raises(LipcertError) as caught:
        lipcert.check(report, proto)
    error = caught.value
    assert isinstance(error, CertificateError), error
    assert error.exit_status == 1
    assert "\n" not in str(error)
    assert all(word in str(error) for word in words), error
    return error


def test_the_report_is_valid_and_quotes_its_templates(honest: Data) -> None:
    assert not errors(honest)
    assert honest["result"]["status"] == "conditional"
    bend, sort = honest["model"]["templates"]  # in the order of the nodes
    assert [bend["text"], sort["text"]] == [TEMPLATES[1].text, TEMPLATES[0].text]
    assert (sort["name"], sort["ops"], sort["title"]) == ("my_groupsort", ["com.example.Sort"], TEMPLATES[0].title)
    assert "certified" not in {attempt["status"] for attempt in honest["attempts"]}


def test_a_report_without_templates_says_nothing_of_them(certified: Data) -> None:
    assert not errors(certified)
    assert certified["result"]["status"] == "certified"
    assert "templates" not in certified["model"]


TEMPLATE_EDITS: dict[str, Edit] = {
    "no name": lambda t: t.pop("name"),
    "no title": lambda t: t.pop("title"),
    "no ops": lambda t: t.pop("ops"),
    "no text": lambda t: t.pop("text"),
    "a field too many": lambda t: t.update(proven=True),
    "a name that is no text": lambda t: t.update(name=1),
    "ops in no list": lambda t: t.update(ops="com.example.Sort"),
    "a text that is none": lambda t: t.update(text=None),
}


@pytest.mark.parametrize("name", TEMPLATE_EDITS)
def test_what_is_no_template_is_invalid(honest: Data, name: str) -> None:
    assert errors(edited(honest, lambda d: TEMPLATE_EDITS[name](d["model"]["templates"][0])).data)


@pytest.mark.parametrize("strict", [False, True])
def test_the_honest_report_holds(honest: Data, strict: bool) -> None:
    result = lipcert.check(Report(honest), BOTH, strict=strict)
    assert result.upper <= honest["result"]["upper"]
    assert [t.text for t in result.templates] == [TEMPLATES[1].text, TEMPLATES[0].text]
    assert lipcert.check(Report(honest), load_proto(BOTH, templates=TEMPLATES), strict=strict).upper == result.upper


def text_edit(old: str, new: str, which: int = 0) -> Edit:
    """Of the text of a template: 0 is my_abs, 1 is my_groupsort."""

    def edit(data: Data) -> None:
        entry = data["model"]["templates"][which]
        assert old in entry["text"]
        entry["text"] = entry["text"].replace(old, new)

    return edit


WEAKER = text_edit('VV = "lambda*I"', 'VV = "9*lambda*I"')
STRONGER = text_edit('VV = "lambda*I"', 'VV = "0.25*lambda*I"')
NOT_EVEN_TRUE = text_edit('lambda = "nonnegative"', 'lambda = "free"')
TWICE: Edit = lambda d: d["model"]["templates"].append(copy.deepcopy(d["model"]["templates"][0]))  # noqa: E731

TAMPERED: dict[str, tuple[Edit, tuple[str, ...]]] = {
    "a weaker template": (WEAKER, ("not proven",)),
    "another group": (text_edit('group = "any"', "group = 3"), ()),
    "more multipliers": (
        text_edit('lambda = "nonnegative"', 'lambda = "nonnegative"\nmu = "free"'),
        ("template", "mu"),
    ),
    "a text that is no template": (lambda d: d["model"]["templates"][0].update(text="["), ("model.templates[0]",)),
    "a text that is none": (lambda d: d["model"]["templates"][0].update(text=1), ("model.templates",)),
    "no text": (lambda d: d["model"]["templates"][0].pop("text"), ("model.templates",)),
    "templates in no list": (lambda d: d["model"].update(templates={}), ("no templates",)),
    "null": (lambda d: d["model"].update(templates=None), ("no templates",)),
    "said to be certified": (lambda d: d["result"].update(status="certified"), ("certified", "some templates")),
    "said to be inconclusive": (lambda d: d["result"].update(status="inconclusive"), ("inconclusive",)),
    "a lower bound": (lambda d: d["result"].update(upper=d["result"]["upper"] * 0.9), ("result.upper",)),
    "another model": (lambda d: d["model"].update(sha256="0" * 64), ("another model",)),
    "without evidence": (lambda d: d.update(certificate=None), ("certificate",)),
    "without the forms": (
        lambda d: [scaling.update(forms=[]) for scaling in d["certificate"]["evidence"]["scalings"]],
        (),
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_report_is_refused(honest: Data, name: str) -> None:
    edit, words = TAMPERED[name]
    assert_refused(edited(honest, edit), BOTH, *words)


REMOVED: dict[str, Edit] = {
    "all": lambda d: d["model"].pop("templates"),
    "all, and certified": lambda d: (d["model"].pop("templates"), d["result"].update(status="certified")),
    "an empty list": lambda d: d["model"].update(templates=[]),
    "one of two": lambda d: d["model"]["templates"].pop(),
    "of another op": text_edit("com.example.Bend", "com.example.Other"),
    "of an op that lipcert knows": text_edit('"com.example.Bend"', '"MatMul"'),
    "one twice": TWICE,
}


@pytest.mark.parametrize("name", REMOVED)
def test_a_report_whose_templates_do_not_fit_verifies_nothing(honest: Data, name: str) -> None:
    """Refused with one line."""
    with pytest.raises(LipcertError) as caught:
        lipcert.check(edited(honest, REMOVED[name]), BOTH)
    assert "\n" not in str(caught.value)
    with pytest.raises(CertificateError):
        lipcert.check(edited(honest, REMOVED[name]), load_proto(BOTH, templates=TEMPLATES))


@pytest.mark.parametrize("name", REMOVED)
def test_a_report_whose_templates_do_not_fit_is_a_refused_certificate(honest: Data, name: str) -> None:
    assert_refused(edited(honest, REMOVED[name]), BOTH)


@pytest.mark.parametrize("other", [network(PLAIN), network(BEND), network(("com.example", "Third"))])
def test_a_report_about_another_model_is_refused_as_such(honest: Data, other: onnx.ModelProto) -> None:
    assert_refused(Report(honest), other, "another model")


def test_another_model_with_the_same_ops_is_refused(honest: Data) -> None:
    assert_refused(Report(honest), network(SORT, BEND), "another model")


def added(data: Data) -> Report:
    quoted = [{"name": t.name, "title": t.title, "ops": list(t.activations), "text": t.text} for t in TEMPLATES]
    return edited(data, lambda d: d["model"].update(templates=quoted))


@pytest.mark.parametrize("status", ["certified", "conditional"])
def test_templates_added_to_a_certified_report_are_refused(certified: Data, status: str) -> None:
    report = edited(added(certified).data, lambda d: d["result"].update(status=status))
    assert_refused(report, network(PLAIN))


def test_templates_added_to_a_certified_report_verify_nothing(certified: Data) -> None:
    with pytest.raises(LipcertError):
        lipcert.check(added(certified), network(PLAIN))
    with pytest.raises(CertificateError, match="names some templates"):
        lipcert.check(added(certified), load_proto(network(PLAIN)))


def test_a_certified_report_is_not_made_conditional(certified: Data) -> None:
    conditional = edited(certified, lambda d: d["result"].update(status="conditional"))
    assert_refused(conditional, network(PLAIN), "conditional", "no templates")


@pytest.mark.parametrize("edit", [STRONGER, NOT_EVEN_TRUE], ids=["stronger", "not even true"])
def test_a_stronger_assumption_is_verified_as_what_it_is(honest: Data, edit: Edit) -> None:
    """The bound does follow from it: the result says from what. Who has the file refuses the report."""
    report = edited(honest, edit)
    quoted = report.data["model"]["templates"][0]["text"]
    assert quoted != TEMPLATES[1].text
    assert lipcert.check(report, BOTH).templates[0].text == quoted
    with pytest.raises(CertificateError, match="other templates"):
        lipcert.check(report, load_proto(BOTH, templates=TEMPLATES))


@pytest.mark.parametrize("field", [{"name": "groupsort"}, {"title": "Proven"}, {"ops": ["Relu"]}], ids=str)
def test_what_is_said_of_a_template_is_what_its_text_says(honest: Data, field: Data) -> None:
    assert_refused(edited(honest, lambda d: d["model"]["templates"][0].update(field)), BOTH)


def test_a_model_with_other_templates_is_refused(honest: Data) -> None:
    looser = parse_template(TEMPLATES[1].text.replace('VV = "lambda*I"', 'VV = "4*lambda*I"'), "looser.toml")
    remarked = parse_template(TEMPLATES[1].text + "\n# a remark", "remarked.toml")
    for template in (looser, remarked):
        imported = load_proto(BOTH, templates=[TEMPLATES[0], template])
        with pytest.raises(CertificateError, match="other templates"):
            lipcert.check(Report(honest), imported)


def test_templates_in_another_order_are_the_same(honest: Data) -> None:
    for templates in (TEMPLATES, TEMPLATES[::-1]):
        assert lipcert.check(Report(honest), load_proto(BOTH, templates=templates)).templates
    turned = edited(honest, lambda d: d["model"]["templates"].reverse())
    assert_refused(turned, BOTH, "other templates")


def absolute() -> onnx.FunctionProto:
    """Bend with a body, |x|."""
    imports = [helper.make_opsetid("", 20)]
    return helper.make_function("com.example", "Bend", ["x"], ["y"], [node("Abs", ["x"], ["y"])], imports)


def test_a_function_is_known_or_assumed_and_the_report_says_which() -> None:
    """The evidence of one is not taken for that of the other."""
    proto = network(BEND, functions=(absolute(),))
    known, assumed = lipcert.bound(proto), lipcert.bound(proto, templates=[TEMPLATES[1]])
    assert (known.status, assumed.status) == ("certified", "conditional")
    for report in (known, assumed):
        assert bool(lipcert.check(report, proto).templates) == (report is assumed)
    imported, resting = load_proto(proto), load_proto(proto, templates=[TEMPLATES[1]])
    with pytest.raises(CertificateError, match="other templates"):
        lipcert.check(assumed, imported)
    with pytest.raises(CertificateError, match="other templates"):
        lipcert.check(known, resting)
    stripped = edited(data_of(assumed), lambda d: (d["model"].pop("templates"), d["result"].update(status="certified")))
    with pytest.raises(NotProvedError):
        lipcert.check(stripped, proto)
