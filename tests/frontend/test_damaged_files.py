"""Files that are no ONNX models, or damaged ones: a model or one line, never a traceback, and quickly."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from lipcert.errors import LipcertError, ModelError
from lipcert.frontend import Model, load_file
from tests.helpers.onnx_models import assert_refused, model, one_op, outcome, random_weights, save

MODELS = Path(__file__).parents[2] / "models"


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = save(b"", tmp_path)
    assert_refused(lambda: load_file(path), ModelError, str(path))


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert_refused(lambda: load_file(tmp_path), ModelError, str(tmp_path), "folder")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "missing.onnx"
    assert_refused(lambda: load_file(path), ModelError, str(path), "No such file")


@pytest.mark.skipif(os.name == "nt" or getattr(os, "geteuid", lambda: 1)() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    path = save(one_op("Relu", (2, 3)), tmp_path)
    path.chmod(0)
    assert_refused(lambda: load_file(path), ModelError, str(path))


@pytest.mark.parametrize("name", ["nul\0byte.onnx", "x" * 5000])
def test_a_path_that_no_file_system_allows_is_refused(name: str) -> None:
    assert_refused(lambda: load_file(name), ModelError)


@pytest.mark.parametrize("text", ["hello\n", "<html></html>", "{}", "label,0,0,0\n7,1,2,3\n"])
def test_a_text_file_is_refused(text: str, tmp_path: Path) -> None:
    path = save(text.encode(), tmp_path)
    assert_refused(lambda: load_file(path), ModelError, str(path), "not an ONNX file")


@pytest.mark.parametrize("seed", range(50))
def test_random_bytes_are_refused(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    path = save(random.bytes(int(random.integers(1, 3000))), tmp_path)
    assert_refused(lambda: load_file(path), ModelError, str(path))


@pytest.mark.parametrize("name", ["digits_relu", "digits_tanh", "digits_conv", "digits_resnet"])
def test_a_truncated_file_is_refused_at_every_length(name: str, tmp_path: Path) -> None:
    data = (MODELS / f"{name}.onnx").read_bytes()
    cuts = {*range(0, 40), *np.linspace(40, len(data) - 1, 60).astype(int).tolist(), *range(len(data) - 40, len(data))}
    for cut in sorted(cuts):
        path = save(data[:cut], tmp_path)
        found = outcome(lambda path=path: load_file(path))
        if isinstance(found, LipcertError):
            assert_refused(lambda path=path: load_file(path), type(found), str(path))
        else:
            assert cut > len(data) - 40, "only what comes after the graph may be missing"


def test_a_truncated_small_model_is_refused_at_every_length(tmp_path: Path) -> None:
    proto = one_op("Gemm", (2, 3), random_weights(3, 4), random_weights(4))
    data = proto.SerializeToString()
    whole = load_file(save(data, tmp_path))
    for cut in range(len(data)):
        path = save(data[:cut], tmp_path)
        found = outcome(lambda path=path: load_file(path))
        if isinstance(found, Model):
            assert found.parameters == whole.parameters
        else:
            assert isinstance(found, ModelError)


def test_bytes_after_the_model_are_refused_or_harmless(tmp_path: Path) -> None:
    data = one_op("Relu", (2, 3)).SerializeToString()
    for tail in (b"\0", b"\n", b"garbage", bytes(100)):
        path = save(data + tail, tmp_path)
        found = outcome(lambda path=path: load_file(path))
        assert isinstance(found, Model | ModelError)


NAMES = [
    "MArK_node",
    "MArK_x",
    "MArK_h",
    "MArK_w",
    "MArK_y",
    "MArK_batch",
    "MArK_producer",
    "MArK_graph",
    "Relu",
    "axis",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_no_text_is_refused_or_harmless(name: str, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["MArK_x", "MArK_w"], ["MArK_h"], name="MArK_node"),
        helper.make_node("Relu", ["MArK_h"], ["r"]),
        helper.make_node("Flatten", ["r"], ["MArK_y"], axis=1),
    ]
    proto = model(nodes, {"MArK_x": ("MArK_batch", 3)}, ["MArK_y"], {"MArK_w": random_weights(3)})
    proto.producer_name, proto.graph.name = "MArK_producer", "MArK_graph"
    load_file(save(proto, tmp_path))
    data = proto.SerializeToString()
    damaged = data.replace(name.encode(), name[:-1].encode() + b"\xff")
    assert damaged != data
    found = outcome(lambda: load_file(save(damaged, tmp_path)))
    assert isinstance(found, Model | ModelError)
    if isinstance(found, ModelError):
        assert "\n" not in str(found)


def test_a_refusal_says_everything_in_its_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No library adds lines of its own to the one that the user sees."""
    proto = one_op("Relu", (2, 3))
    proto.graph.node[0].input[0] = "ghost"
    assert_refused(lambda: load_file(save(proto, tmp_path)), ModelError, "'ghost'")
    assert [record.getMessage() for record in caplog.records] == []


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    import hashlib

    data = (MODELS / "digits_relu.onnx").read_bytes()
    assert load_file(save(data, tmp_path)).sha256 == hashlib.sha256(data).hexdigest()
