"""``make demo``: from nothing to a licensed and metered customer instance, and the proof of it."""
