"""Speed and tightness of lipcert, alone and beside its peers: `python -m benchmarks` (see README.md)."""
