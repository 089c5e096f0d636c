"""Mixes sources by rows, images, bytes or tokens so that at every prefix each is within one document of its target.

`tree` holds what is mixed, `curve` how weights change, `targets` what each leaf should have delivered, `scheduler` who
is next. Everything is exact: integers and rationals, the same on every platform.
"""
