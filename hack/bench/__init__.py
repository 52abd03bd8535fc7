"""Benchmarks: every figure stands beside a reference measured in the same run.

Figures of a shared machine are noisy; a ratio of two figures of one run is not. ``python -m bench``
writes ``build/bench.json``: a list of ``{name, value, unit, reference, referenceValue, ratio,
target, ok}``.
"""
