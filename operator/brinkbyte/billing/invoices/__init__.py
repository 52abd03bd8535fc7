"""Invoices: rated at each period boundary, final ever after, traceable to sealed batches."""
