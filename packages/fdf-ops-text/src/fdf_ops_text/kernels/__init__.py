"""Compiled loops over the bytes of text columns. Importing this package brings numba; operators do so in `setup`."""
