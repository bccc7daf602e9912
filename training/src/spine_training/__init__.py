"""Trains the segmentation and the measurement networks, and evaluates them."""

__version__ = "0.1.0"
