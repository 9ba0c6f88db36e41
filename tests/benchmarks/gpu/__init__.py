"""Correctness and speed on a GPU in one run of a few minutes: `python -m tests.benchmarks.gpu`."""
