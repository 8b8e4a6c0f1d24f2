"""Weights outside the model file: read beside it and in folders below, and nowhere else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from lipcert.errors import LipcertError, ModelError
from lipcert.frontend import Model, load_file, load_proto
from lipcert.graph import Affine
from tests.helpers.onnx_models import assert_refused, assert_same, model, one_op, outcome, random_points, save, session

node = helper.make_node
WEIGHTS = np.arange(12, dtype=np.float32).reshape(3, 4)
PREFIX = b"\0" * 64


def with_external(location: str, *, offset: int | None = None, length: int | None = None) -> onnx.ModelProto:
    """x w, with w kept in another file at `location`."""
    proto = one_op("MatMul", ("n", 3), WEIGHTS)
    set_external_data(proto.graph.initializer[0], location, offset, length)
    proto.graph.initializer[0].ClearField("raw_data")
    proto.graph.initializer[0].data_location = TensorProto.EXTERNAL
    return proto


def weights_of(imported: Model) -> np.ndarray:
    (affine,) = (n for n in imported.graph.nodes if isinstance(n, Affine))
    return affine.operators[0].weights.T  # type: ignore[attr-defined]


@pytest.mark.parametrize("location", ["weights.bin", "data/weights.bin", "a/b/c.data", "./weights.bin"])
def test_data_beside_the_model_or_below_is_read(location: str, tmp_path: Path) -> None:
    (tmp_path / location).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / location).write_bytes(WEIGHTS.tobytes())
    path = save(with_external(location), tmp_path)
    imported = load_file(path)
    np.testing.assert_array_equal(weights_of(imported), WEIGHTS)
    assert imported.external_data == {location: hashlib.sha256(WEIGHTS.tobytes()).hexdigest()}
    assert_same(imported, session(str(path)), random_points(imported))


def test_offset_and_length_are_heeded(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(PREFIX + WEIGHTS.tobytes() + PREFIX)
    proto = with_external("w.bin", offset=len(PREFIX), length=WEIGHTS.nbytes)
    np.testing.assert_array_equal(weights_of(load_file(save(proto, tmp_path))), WEIGHTS)


def test_a_relative_path_to_the_model_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    save(with_external("w.bin"), tmp_path)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(weights_of(load_file("model.onnx")), WEIGHTS)


def test_the_folder_of_the_model_may_be_a_link(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (real / "w.bin").write_bytes(WEIGHTS.tobytes())
    save(with_external("w.bin"), real)
    (tmp_path / "link").symlink_to(real)
    np.testing.assert_array_equal(weights_of(load_file(tmp_path / "link" / "model.onnx")), WEIGHTS)


def test_several_tensors_share_a_file(tmp_path: Path) -> None:
    weights = {"w": WEIGHTS, "b": np.arange(4, dtype=np.float32)}
    proto = model([node("Gemm", ["x", "w", "b"], ["y"])], {"x": (1, 3)}, ["y"], weights)
    onnx.save_model(proto, tmp_path / "m.onnx", save_as_external_data=True, location="all.data", size_threshold=0)
    imported = load_file(tmp_path / "m.onnx")
    assert list(imported.external_data) == ["all.data"]
    np.testing.assert_array_equal(weights_of(imported), WEIGHTS)


def test_constant_nodes_in_external_data(tmp_path: Path) -> None:
    stored = numpy_helper.from_array(WEIGHTS, "c")
    nodes = [node("Constant", [], ["w"], value=stored), node("MatMul", ["x", "w"], ["y"])]
    proto = model(nodes, {"x": (1, 3)}, ["y"])
    tensor = proto.graph.node[0].attribute[0].t
    set_external_data(tensor, "c.bin")
    tensor.ClearField("raw_data")
    (tmp_path / "c.bin").write_bytes(WEIGHTS.tobytes())
    found = outcome(lambda: load_file(save(proto, tmp_path)))
    if isinstance(found, Model):
        np.testing.assert_array_equal(weights_of(found), WEIGHTS)
    else:
        assert isinstance(found, ModelError)


def outside(tmp_path: Path) -> Path:
    """A readable file beside the model's folder."""
    path = tmp_path / "outside.bin"
    path.write_bytes(WEIGHTS.tobytes())
    return path


def linked_file(tmp_path: Path, folder: Path) -> str:
    (folder / "link.bin").symlink_to(outside(tmp_path))
    return "link.bin"


def linked_folder(tmp_path: Path, folder: Path) -> str:
    outside(tmp_path)
    (folder / "link").symlink_to(tmp_path)
    return "link/outside.bin"


def relative_link(tmp_path: Path, folder: Path) -> str:
    outside(tmp_path)
    (folder / "link.bin").symlink_to("../outside.bin")
    return "link.bin"


ESCAPES: dict[str, Callable[[Path, Path], str]] = {
    "absolute": lambda tmp_path, folder: str(outside(tmp_path)),
    "parent": lambda tmp_path, folder: f"../{outside(tmp_path).name}",
    "parent and back": lambda tmp_path, folder: f"sub/../../{outside(tmp_path).name}",
    "link": linked_file,
    "relative link": relative_link,
    "link to a folder": linked_folder,
    "empty": lambda tmp_path, folder: "",
}


@pytest.mark.parametrize("escape", ESCAPES)
def test_data_outside_the_folder_of_the_model_is_refused(escape: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    location = ESCAPES[escape](tmp_path, folder)
    path = save(with_external(location), folder)
    assert_refused(lambda: load_file(path), ModelError, str(path), "'c0'", repr(location), "outside")


def test_missing_data_is_refused(tmp_path: Path) -> None:
    path = save(with_external("gone.bin"), tmp_path)
    assert_refused(lambda: load_file(path), ModelError, str(path), "'gone.bin'", "missing")


def test_a_folder_in_place_of_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.bin").mkdir()
    path = save(with_external("w.bin"), tmp_path)
    assert_refused(lambda: load_file(path), ModelError, str(path), "'w.bin'")


@pytest.mark.parametrize(
    ("offset", "length"),
    [(None, 8), (None, 400), (8, WEIGHTS.nbytes), (10**15, WEIGHTS.nbytes), (None, 10**15), (-8, None), (0, 0)],
)
def test_an_offset_or_length_that_does_not_fit_is_refused(
    offset: int | None, length: int | None, tmp_path: Path
) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    proto = with_external("w.bin", offset=offset, length=length)
    path = save(proto, tmp_path)
    found = outcome(lambda: load_file(path))
    if isinstance(found, LipcertError):
        assert_refused(lambda: load_file(path), ModelError, str(path), "'c0'")
    else:
        np.testing.assert_array_equal(weights_of(found), WEIGHTS)


@pytest.mark.parametrize("size", [0, 1, WEIGHTS.nbytes - 1])
def test_data_that_is_too_short_is_refused(size: int, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes()[:size])
    path = save(with_external("w.bin"), tmp_path)
    assert_refused(lambda: load_file(path), ModelError, str(path), "'c0'")


def test_an_offset_that_is_no_number_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    proto = with_external("w.bin")
    proto.graph.initializer[0].external_data.add(key="offset", value="many")
    path = save(proto, tmp_path)
    assert_refused(lambda: load_file(path), ModelError, str(path))


def test_a_location_that_no_file_system_allows_is_refused(tmp_path: Path) -> None:
    for location in ("a\0b", "x" * 5000):
        path = save(with_external(location), tmp_path)
        assert_refused(lambda path=path: load_file(path), ModelError, str(path))


def test_a_model_in_memory_cannot_have_external_data() -> None:
    assert_refused(lambda: load_proto(with_external("w.bin")), ModelError, "external data")


def test_a_file_that_does_not_fit_its_declared_shape_is_never_padded(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes() + PREFIX)
    found = outcome(lambda: load_file(save(with_external("w.bin"), tmp_path)))
    assert isinstance(found, ModelError) or np.array_equal(weights_of(found), WEIGHTS)  # type: ignore[arg-type]
