"""What payment providers tell us: an inbox that takes each event once, and works on it later.

In: signed deliveries, and events fetched as they were not delivered. Out: invoices whose copy is
read again. An event is a hint and nothing else: neither its order nor its content is believed.
"""
