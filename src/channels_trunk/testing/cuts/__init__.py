"""A cut at each packet, for any channel layer behind a server. See CutSuite."""

from channels_trunk.testing.cuts.suite import CutSuite

__all__ = ["CutSuite"]
