"""Contracts with senders, versioned; read through :mod:`lakehouse.message`."""
