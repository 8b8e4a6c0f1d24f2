"""Tests of the quadratic-constraint templates."""
