"""Compile for a TPU without having one: python -m train.bench --tpu-compile."""
