"""Subscriptions: what a customer has bought, until when, in which periods."""
