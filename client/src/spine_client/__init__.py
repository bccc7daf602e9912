"""Client SDK and command line of SpineServe."""

__version__ = "0.1.0"
