"""Readers of real patients' data: files of a published data set to messages of the contract, in event order.

Adding a source is one file with a value that has the shape of :class:`~lakehouse.sources.source.Source`, named in
:mod:`lakehouse.sources.registry`. Replay sends what a reader yields and backfill lands it, so both give the same
observations.
"""
