"""Train a classifier of names: python -m train.names."""
