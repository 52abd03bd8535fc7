"""Clone alarms: one instance that seems to run twice, reported and shown, never cut off for it."""
