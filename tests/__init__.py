"""The tests, and what they share: helpers, PyTorch twins, references, campaign."""
