"""Instances: enrollment, credentials, key pairs, heartbeats."""
