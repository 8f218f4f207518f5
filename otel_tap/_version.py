"""The version of the agent; the scope version of every span and log record."""

__version__ = "0.1.0"
