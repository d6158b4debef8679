"""Bounds of proposed limits, as YAML."""
