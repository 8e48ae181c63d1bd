"""Measure rnnjax against other libraries: python -m train.bench."""
