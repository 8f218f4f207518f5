"""Takes secrets out of an exchange; nothing before this stage may reach a sink.

`rules` says what is secret, `urls`, `content` and `multipart` find it inside URLs and bodies,
`bodies` makes captured bytes searchable, `redaction` goes through an exchange. All of it is pure,
and none of it remembers a value.
"""

from otel_tap.privacy.bodies import RedactionCounters
from otel_tap.privacy.redaction import Redactor
from otel_tap.privacy.rules import RedactionSettings

__all__ = ["RedactionCounters", "RedactionSettings", "Redactor"]
