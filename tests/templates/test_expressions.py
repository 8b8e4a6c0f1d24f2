"""Expressions are arithmetic and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipcert.templates.evaluation import CONSTANT, Names, evaluate_matrix
from lipcert.templates.expressions import MAX_DEPTH, ExpressionError, parse
from tests.helpers.exact import many

A, B = np.array([1.0, 2.0, 3.0]), np.array([-1.0, 0.5, 4.0])


def names() -> Names:
    defined = {"K": parse("J - I"), "T": parse("lambda*I + gamma*K"), "c": parse("a*b")}
    return Names(3, frozenset({"lambda", "gamma"}), {"a": A, "b": B}, defined)


def evaluated(text: str, shape: tuple[int, int] = (3, 3)) -> dict[str, np.ndarray]:
    return evaluate_matrix(parse(text), names(), shape)


I, J = np.eye(3), np.ones((3, 3))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I", {CONSTANT: I}),
        ("-2*I + J/4", {CONSTANT: J / 4 - 2 * I}),
        ("I - J/size", {CONSTANT: I - J / 3}),
        ("2*lambda*(I - J)", {"lambda": 2 * (I - J)}),
        ("T - gamma*I", {"lambda": I, "gamma": J - 2 * I}),
        ("diag(a*b)", {CONSTANT: np.diag(A * B)}),
        ("diag(c)", {CONSTANT: np.diag(A * B)}),
        ("diag(lambda*a - gamma*b)", {"lambda": np.diag(A), "gamma": -np.diag(B)}),
        ("diag(a^2)", {CONSTANT: np.diag(A**2)}),
        ("-diag(a)", {CONSTANT: -np.diag(A)}),
        ("outer(a, b)", {CONSTANT: np.outer(A, B)}),
        ("outer(a, gamma*b)", {"gamma": np.outer(A, B)}),
        ("outer(ones, a)", {CONSTANT: np.outer(np.ones(3), A)}),
        ("1 - 2 + 1", {CONSTANT: 0 * I}),
        ("2^3/4*I", {CONSTANT: 2 * I}),
        ("8/2/2*I", {CONSTANT: 2 * I}),
        ("--I", {CONSTANT: I}),
        ("1.5e0*I", {CONSTANT: 1.5 * I}),
        (".5 * I", {CONSTANT: 0.5 * I}),
    ],
)
def test_they_mean_what_they_say(text: str, expected: dict[str, np.ndarray]) -> None:
    found = evaluated(text)
    assert {key for key, part in found.items() if np.any(part)} == {k for k, part in expected.items() if np.any(part)}
    for key, part in expected.items():
        np.testing.assert_allclose(found[key], part)


def test_blocks_need_not_be_square() -> None:
    np.testing.assert_array_equal(evaluated("lambda*J", (3, 1))["lambda"], np.ones((3, 1)))
    np.testing.assert_array_equal(evaluated("outer(a, ones)", (3, 2))[CONSTANT], np.outer(A, np.ones(2)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "ends too early"),
        ("2*", "ends too early"),
        ("(I", "')' is expected, not the end"),
        ("I)", "')' is not expected"),
        ("I J", "'J' is not expected"),
        ("*I", "'*' is not expected"),
        ("__import__", "'_' is no part"),
        ("I.T", "'.' is no part"),
        ("I[0]", "'[' is no part"),
        ("'I'", "is no part"),
        ("lambda: 1", "':' is no part"),
        ("x" * 33, "is no name"),
        ("ñ*I", "is no part"),
        ("1e400*I", "is not within"),
        ("1e-300*I", "is not within"),
        ("9^9999999999*I", "is above 4"),
        ("9^9^9*I", "is above 4"),
        ("2^5*I", "is above 4"),
        ("2^0.5*I", "is no whole number"),
        ("2^-1*I", "is no whole number"),
        ("2^a*I", "is no whole number"),
        ("2^", "ends too early"),
        ("(" * 60 + "I" + ")" * 60, "levels of parentheses"),
        ("-" * 60 + "I", "levels of parentheses"),
        ("diag(" * 60, "levels of parentheses"),
        ("I+" * 200 + "I", "at most 300"),
        ("H*I", "H is unknown"),
        ("exec(a)", "exec(..) is unknown"),
        ("diag", "diag is a function"),
        ("diag(a, b)", "takes 1 vector, not 2"),
        ("outer(a)", "takes 2 vectors, not 1"),
        ("diag(2)", "a number stands where a vector"),
        ("diag(I)", "has no place there"),
        ("diag(diag(a))", "has no place there"),
        ("ones*I", "has no place there"),
        ("a", "a vector, not a matrix"),
        ("2", "a number, not a matrix"),
        ("lambda", "a number, not a matrix"),
        ("I + 1", "a matrix and a number are added"),
        ("I*J", "not in the vocabulary"),
        ("a*I", "not in the vocabulary"),
        ("lambda*gamma*I", "a product of multipliers"),
        ("lambda*T", "a product of multipliers"),
        ("lambda^2*I", "have powers"),
        ("I^2", "have powers"),
        ("I/lambda", "only a number divides"),
        ("I/J", "only a number divides"),
        ("I/0", "division by zero"),
        ("I/(1 - 1)", "division by zero"),
    ],
)
def test_everything_else_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(ExpressionError, match=r".") as caught:
        evaluated(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(("text", "words"), [("I", "square"), ("diag(a)", "square"), ("outer(a, b)", "one of 2")])
def test_square_matrices_do_not_fit_other_blocks(text: str, words: str) -> None:
    with pytest.raises(ExpressionError, match=words):
        evaluated(text, (3, 2))


@many
@given(st.text(alphabet="IJab2.^*+-/(), lambdagTc_diouters1e", max_size=60) | st.text(max_size=20))
def test_no_text_does_anything_but_be_evaluated_or_refused(text: str) -> None:
    try:
        found = evaluated(text)
    except ExpressionError:
        return
    assert all(part.shape == (3, 3) for part in found.values())


def scalars() -> st.SearchStrategy[str]:
    """Arithmetic that Python reads alike, once ^ is **."""
    leaves = st.sampled_from(["1", "2", "0.5", "3"])

    def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.one_of(
            st.builds("{} {} {}".format, inner, st.sampled_from("+-*"), inner),
            st.builds("({})".format, inner),
            st.builds("{} / 2".format, inner),
            st.builds("-{}".format, inner),
            st.builds("({})^2".format, inner),
        )

    return st.recursive(leaves, grown, max_leaves=8)


@many
@given(scalars())
def test_arithmetic_is_that_of_python(text: str) -> None:
    if len(text) > 280 or text.count("(") + text.count("-") > MAX_DEPTH:
        return
    expected = eval(text.replace("^", "**"))
    np.testing.assert_allclose(evaluated(f"({text})*I")[CONSTANT], expected * I, rtol=1e-9, atol=1e-9)
