"""Fetch the real data: python -m train.fetch."""
