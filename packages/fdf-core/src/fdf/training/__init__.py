"""Hands documents to training: which rank and worker gets which, in what order, and where they stand.

`striping` deals documents out, `finished` and `online` are where they come from (a committed dataset; a mixture that is
drawn as it is read), `state` is where training stands, `dataset` is what PyTorch sees.
"""
