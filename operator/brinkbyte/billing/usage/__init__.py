"""Usage: the ledger. Sealed batches in, signed receipts out, every event counted once."""
