"""A change of signing keys as a rollout: who has seen the new set, who needs the old keys."""
