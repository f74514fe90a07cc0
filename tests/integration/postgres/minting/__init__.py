"""A database engine that wraps Django's: it fetches a password for each connection, and has a pool of its own."""

asked: list[str] = []
passwords: list[str] = []
