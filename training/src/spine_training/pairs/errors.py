"""What is wrong with a folder of pairs, in one sentence."""

from __future__ import annotations


class PairError(ValueError):
    """The folder, or one pair in it, cannot be used; the message is one sentence on what to do."""
