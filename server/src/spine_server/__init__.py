"""Starts and supervises the Triton server that SpineServe runs on."""

__version__ = "0.1.0"
