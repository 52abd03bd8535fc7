"""API keys of customers: for a customer's own programs, made by the vendor or an owner."""
