"""A page to play with trained runs: python -m train.page."""
