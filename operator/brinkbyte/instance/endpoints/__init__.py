"""HTTP only: one module per group of endpoints."""
