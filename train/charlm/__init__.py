"""Train a character language model: python -m train.charlm."""
