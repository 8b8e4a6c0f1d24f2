"""Arithmetic whose rounding is accounted for: the ground on which every certified number stands."""
