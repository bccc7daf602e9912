"""Capacity planning: measured service times, the simulation of a fleet, and what follows from both.

``benchmarks/plan.py`` is the command; README.md says what is modelled and what is not.
"""
