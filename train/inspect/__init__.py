"""Look inside a trained run: python -m train.inspect."""
