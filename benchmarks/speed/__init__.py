"""How fast SpineServe is, against nnUNetPredictor and the same predictor behind a plain web server.

``make bench`` runs it; benchmarks/README.md says what is measured and how.
"""
