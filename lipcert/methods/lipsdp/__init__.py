"""LipSDP: multipliers for all nonlinear nodes at once, found by an interior-point method, proven as one scaled norm."""

from lipcert.methods.lipsdp.method import LipSdpMethod

__all__ = ["LipSdpMethod"]
