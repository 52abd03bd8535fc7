"""Licenses: signing keys, who holds which seat, and the documents that say so."""
