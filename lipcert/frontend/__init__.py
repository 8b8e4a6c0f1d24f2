"""From an ONNX file to a Graph: reading and limits, constant folding, one converter file per op family, self-check."""

from lipcert.frontend.load import load_file, load_proto, model_digest
from lipcert.frontend.model import Model, TensorInfo

__all__ = ["Model", "TensorInfo", "load_file", "load_proto", "model_digest"]
