"""Quotas: what was used in the billing period, what is left, what the month costs so far."""
