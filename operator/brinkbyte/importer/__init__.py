"""Brings the database of the old edge service, one SQLite file, into the instance's PostgreSQL.

In: the file, which is only ever read, and the instance's database. Out: rows, a journal of them, a
backup of the file, what was set aside and why. May import: ``store``, the domain and ``kit``.
``docs/migrate-sqlite.md`` says what the old tables are taken to be.
"""
