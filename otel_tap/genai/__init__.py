"""Calls of generative models, recognised by path and by the shape of their JSON.

Read only where an operator asks for it, and while the contents flow: no byte of a message is kept.
What becomes of it (names, ids, numbers) is `exchange.GenAi`.
"""

from __future__ import annotations

from otel_tap.genai.call import Call
from otel_tap.genai.interfaces import interface_of
from otel_tap.messages import Field
from otel_tap.protocols.content import ContentRules, ReadExchange

__all__ = ["GenAiRules"]


class GenAiRules(ContentRules):
    """Chooses exchanges that may be calls of generative models."""

    __slots__ = ()

    def matches(self, method: bytes, target: bytes) -> bool:
        """Whether the path is that of a known interface."""
        return interface_of(method, target) is not None

    def begin(self, target: bytes, fields: tuple[Field, ...]) -> ReadExchange | None:
        """Reads such an exchange."""
        interface = interface_of(b"POST", target)
        return None if interface is None else Call(interface, target, fields)
