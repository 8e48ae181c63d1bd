"""Weights of other frameworks, in and out."""
