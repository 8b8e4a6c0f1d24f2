"""Write an implicit network, z = relu(W z + U x + b), y = Wo z + bo, in the form of docs/implicit-onnx.md.

    python models/export_implicit.py in.npz out.onnx

The arrays keep their precision. The step is halved until the iteration converges for random inputs.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from lipcert.frontend.fixed_point_form import define_functions

OPSET = 20
IR_VERSION = 10
SAMPLES = 60
ITERATIONS = 10_000
LARGEST_STATE = 1e9
LEAST_STEP = 1e-3
KEYS = ("W", "U", "b", "Wo", "bo")

Arrays = Mapping[str, NDArray]


def iterate(arrays: Arrays, x: NDArray, step: float, tolerance: float, limit: int = ITERATIONS) -> tuple[NDArray, int]:
    """Return the states of a batch, one input a row, and the number of steps (limit: not converged)."""
    injection = x @ arrays["U"].T + arrays["b"]
    state = np.zeros_like(injection)
    for count in range(1, limit):
        moved = step * (np.maximum(state @ arrays["W"].T + injection, 0) - state)
        state, size = state + moved, np.abs(state).max()
        if size > LARGEST_STATE:
            break
        if np.abs(moved).max() <= tolerance * (1 + size):
            return state, count
    return state, limit


def choose_step(arrays: Arrays, tolerance: float) -> float:
    """Return the step among 1, 1/2, 1/4, ... that takes the fewest iterations on random inputs of two sizes."""
    x = np.random.default_rng(0).standard_normal((SAMPLES, arrays["U"].shape[1])).astype(arrays["U"].dtype)
    x[SAMPLES // 2 :] *= 10
    best, least = 0.0, ITERATIONS
    step, limit = 1.0, ITERATIONS // 10
    while step >= LEAST_STEP:
        count = iterate(arrays, x, step, tolerance, min(limit, least))[1]
        if count < min(limit, least):
            best, least = step, count
        elif best:
            return best
        step /= 2
        limit = min(int(1.5 * limit), ITERATIONS)
    if not best:
        sys.exit(f"no step from 1 to {LEAST_STEP:g} converges in {ITERATIONS} iterations: is the network well-posed?")
    return best


def build(arrays: Arrays) -> onnx.ModelProto:
    """Return the network as ONNX: Gemm, FixedPoint, Gemm."""
    dtype = arrays["W"].dtype
    tolerance = 4 * float(np.finfo(dtype).eps)
    attributes = {
        "kind": "linear",
        "activation": "Relu",
        "step": choose_step(arrays, tolerance),
        "iterations": ITERATIONS,
        "tolerance": tolerance,
    }
    nodes = [
        helper.make_node("Gemm", ["x", "U", "b"], ["u"], "injection", transB=1),
        helper.make_node("FixedPoint", ["u", "W"], ["z"], "implicit", domain="lipcert", **attributes),
        helper.make_node("Gemm", ["z", "Wo", "bo"], ["y"], "head", transB=1),
    ]
    element = helper.np_dtype_to_tensor_dtype(dtype)
    graph = helper.make_graph(
        nodes,
        "implicit",
        [helper.make_tensor_value_info("x", element, [1, arrays["U"].shape[1]])],
        [helper.make_tensor_value_info("y", element, [1, arrays["Wo"].shape[0]])],
        [numpy_helper.from_array(arrays[key], key) for key in KEYS],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("lipcert", 1)]
    model = define_functions(helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION))
    onnx.checker.check_model(model, full_check=True)
    return model


def main(source: Path, target: Path) -> None:
    """Convert one file."""
    with np.load(source) as stored:
        arrays = {key: stored[key] for key in KEYS}
    onnx.save_model(build(arrays), target)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
