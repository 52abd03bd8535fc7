"""Telling people: an outbox written with what happened, delivered by e-mail, webhook and SMS.

In: :func:`brinkbyte.billing.notifications.outbox.enqueue` in the transaction of what happened.
Out: e-mails, signed webhooks, text messages; each target is told once and retried until it hears.
"""
