"""Every error that otel-tap raises on purpose.

::

    OtelTapError
    ├── ConfigError       a setting is wrong: names the key, the place and a remedy   exit 3
    ├── HostError         this host cannot be tapped: names the check and a remedy    exit 4
    │   └── RightsError   ... because the caller lacks rights                         exit 5
    ├── CaptureError      the kernel refused a probe, or a recording is unreadable    exit 1
    └── ExportError       telemetry could not be handed to its sink                   exit 1

A malformed HTTP message is not an error here: the stream turns opaque and is counted.
"""

from __future__ import annotations


class OtelTapError(Exception):
    """Base of all errors a user may see: `message` says the cause, `remedy` what to do."""

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class ConfigError(OtelTapError):
    """A setting is unknown or has a value it cannot have."""

    exit_code = 3


class HostError(OtelTapError):
    """This host lacks something that tapping needs; `check` is the doctor's name for it."""

    exit_code = 4

    def __init__(self, check: str, message: str, *, remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self.check = check


class RightsError(HostError):
    """The host could be tapped, but not by this user."""

    exit_code = 5


class CaptureError(OtelTapError):
    """A probe could not be loaded or attached, or a recording cannot be read."""


class ExportError(OtelTapError):
    """Telemetry could not be written to its sink."""
