"""Operators that run a model: the contract of their three verbs, their weights, and the libraries beneath them."""
