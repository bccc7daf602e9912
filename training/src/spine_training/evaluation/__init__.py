"""Accuracy through a running server: cases, references, scores, the paper's tables, and pages of them."""
