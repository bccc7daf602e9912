"""Hostile and broken input to a real server: ``python -m reliability.fuzz``."""
