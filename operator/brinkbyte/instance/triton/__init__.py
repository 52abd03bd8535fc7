"""Triton: the model repository we write, its HTTP v2 API, and the loader that enforces licenses."""
