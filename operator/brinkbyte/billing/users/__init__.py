"""A customer's people: invited by e-mail, with a role, signed in by password or e-mailed link."""
