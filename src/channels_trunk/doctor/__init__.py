"""Finds out why a layer does not work: settings, engine, round trips in this process and with a child process."""

from .examination import examine

__all__ = ["examine"]
