"""What several operators want to know of a text column, found once per batch and shared between them.

`Texts` is the column as bytes; `Words` are its words under one segmentation. Importing a module of this package brings
numba, so operators do it in `setup` or in their verb.
"""
