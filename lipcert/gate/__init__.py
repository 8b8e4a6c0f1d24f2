"""Limits for networks in CI: a policy, what it asks of each model, verdicts, and the formats that CI reads."""
