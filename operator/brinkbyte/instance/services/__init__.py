"""The rules behind the endpoints; SQL is the store's, HTTP the endpoints'."""
