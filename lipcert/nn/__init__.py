"""For people who train: norms that can be differentiated. No method uses them, and nothing here is certified."""

from lipcert.nn.conv_norm import conv_norm

__all__ = ["conv_norm"]
