"""Transports: they move envelopes between nodes and keep the queues of normal channels. `base` is the contract."""
