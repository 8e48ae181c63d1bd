"""Reports of finished runs: python -m train.report."""
