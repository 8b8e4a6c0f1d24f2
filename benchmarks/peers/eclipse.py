"""ECLipsE (PyPI `eclipse-nn`; Xu and Sivaranjani, NeurIPS 2024): global l2 bounds of dense networks.

It takes an nn.Sequential of Linear layers and activations, and reads every activation as a slope in [0, 1]: exact for
ReLU, wider than needed for LeakyReLU. Biases do not matter to it. It works in float64 without error bounds.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from functools import partial
from importlib import metadata, util

from benchmarks.peers.answers import Answer, Way
from benchmarks.peers.layers import Layers

NAME = "eclipse-nn"

METHODS = ("ECLipsE", "ECLipsE_Fast")


def available() -> str | None:
    return None if util.find_spec("eclipse_nn") else "not installed (pip install eclipse-nn)"


def version() -> str:
    return metadata.version("eclipse-nn")


def global_l2(layers: Layers) -> Iterator[Way]:
    """Its semidefinite programs layer by layer, and its closed form."""
    for method in METHODS:
        yield method, partial(_estimate, layers, method)


def _estimate(layers: Layers, method: str) -> Answer:
    import torch
    from eclipse_nn import LipConstEstimator

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        bound = LipConstEstimator(model=layers.sequential(torch.float64)).estimate(method)
    remark = "its SDP was rejected by its own test: this is ECLipsE_Fast" if "Falling back" in said.getvalue() else ""
    return float(bound), remark
