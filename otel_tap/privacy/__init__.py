"""Takes secrets out of an exchange; nothing before this stage may reach a sink.

`rules` says what is secret, `urls` and `content` find it inside URLs and bodies, `redaction` goes
through an exchange. All of it is pure, and none of it remembers a value.
"""

from otel_tap.privacy.redaction import RedactionCounters, Redactor
from otel_tap.privacy.rules import RedactionSettings

__all__ = ["RedactionCounters", "RedactionSettings", "Redactor"]
