"""Numerics of SpineServe: geometry, nnU-Net pre- and post-processing, levels, measurements, phantoms."""

__version__ = "0.1.0"
