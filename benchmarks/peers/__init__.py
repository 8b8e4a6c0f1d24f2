"""Other tools on the same queries, in the same process: one module a tool, `suite` compares.

Each module has NAME, `available()` (None, or why it cannot run here), `version()`, and what it bounds.
"""
