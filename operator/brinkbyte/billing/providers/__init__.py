"""Payment providers: who collects what an invoice says.

In: our invoices, final to the cent. Out: the provider's copy of each, and what happened to it.
Nothing here prices anything: every amount comes from ``rating`` by way of ``invoices``.
"""
