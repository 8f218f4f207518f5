"""The agent's configuration: from flags, environment, file and defaults to checked settings.

A trust boundary: what comes out is complete, typed and immutable; what is wrong is a ConfigError
that names the place, the key, the value and what is accepted.
"""

from otel_tap.settings.load import Loaded, check_settings, load_settings
from otel_tap.settings.model import Settings

__all__ = ["Loaded", "Settings", "check_settings", "load_settings"]
