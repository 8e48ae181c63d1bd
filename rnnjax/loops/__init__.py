"""The loops over time: one contract, several ways to run it."""
