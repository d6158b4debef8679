"""The command line, typed settings, and the starting and stopping of local processes."""

__version__ = "0.1.0"
