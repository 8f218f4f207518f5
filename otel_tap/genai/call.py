"""One call of a generative model, read while its contents flow.

Owns what is taken out of them: names, ids, numbers. Promises: texts are short and of the characters
of names, everything else is left out; nothing is said of what was not seen whole: a count that a
later piece could have corrected is not given. Must not know the protocol that carries the call.
"""

from __future__ import annotations

import math
import re
from typing import Final

from otel_tap.exchange import GenAi
from otel_tap.genai.interfaces import AZURE_OPENAI, Interface, provider_of
from otel_tap.genai.json_scan import JsonScan, Scalar
from otel_tap.messages import Field, field_value
from otel_tap.protocols.content import ReadExchange

# Names of models are paths at times (`meta-llama/Llama-3.1-8B`, `ft:gpt-4o:org::id`, `m@date`).
_NAME: Final = re.compile(r"(?!.*://)[0-9A-Za-z_.:/@+-]{1,128}")
_REASON: Final = re.compile(r"[A-Za-z][A-Za-z_-]{0,31}")
_MAX_REASONS: Final = 16
_MAX_COUNT: Final = 1 << 53
_USAGE = (
    "input_tokens",
    "output_tokens",
    "cache_read.input_tokens",
    "cache_creation.input_tokens",
    "reasoning.output_tokens",
)
_WHOLE = ("max_tokens", "seed", "choice.count")


class _RequestScan(JsonScan):
    """What a request says."""

    __slots__ = ("_names", "asked", "asked_by", "model", "parameters", "stream")

    def __init__(self, interface: Interface) -> None:
        super().__init__(frozenset(interface.request))
        self._names = interface.request
        self.asked_by = interface.asked_by
        self.asked = False
        self.model: str | None = None
        self.stream = interface.streams_unasked
        self.parameters: dict[str, int | float] = {}

    def named(self, place: str) -> None:
        """The key that such requests have."""
        if place == self.asked_by:
            self.asked = True

    def found(self, place: str, value: Scalar) -> None:
        """A parameter."""
        name = self._names[place]
        if name == "model":
            self.model = _name(value)
        elif name == "stream":
            if isinstance(value, bool):
                self.stream = value
        elif isinstance(value, (int, float)) and _is_number(value):
            if name not in _WHOLE:
                self.parameters[name] = float(value)
            elif isinstance(value, int):
                self.parameters[name] = value

    def bare_word(self, place: str, word: bytes) -> None:
        """No parameter."""

    def closed(self, place: str) -> None:
        """Nothing depends on it."""


class _ResponseScan(JsonScan):
    """What the answer says, be it in one document or in many."""

    __slots__ = ("_answered_by", "_ends", "_index", "_names", "_reason", "answered", "ended", "id",
                 "model", "reasons", "usage", "whole")  # fmt: skip

    def __init__(self, interface: Interface) -> None:
        super().__init__(frozenset(interface.response) | {place for place, _ in interface.ends})
        self._ends = interface.ends
        self.ended = False  # it said so itself
        self._names = interface.response
        self._answered_by = interface.answered_by
        self.answered = False
        self.whole = True
        self.id: str | None = None
        self.model: str | None = None
        self.reasons: dict[int, str] = {}
        self.usage: dict[str, int] = {}
        self._index = -1
        self._reason = ""

    def cut(self) -> None:
        """Counts that were seen may have been corrected in what is missing."""
        self.whole = False
        super().cut()

    def named(self, place: str) -> None:
        """The key that such answers have, or their pieces, at any place that is looked at."""
        if place.rpartition(".")[2] == self._answered_by:
            self.answered = True

    def found(self, place: str, value: Scalar) -> None:
        """A name or a count; later pieces know better."""
        if (place, value) in self._ends:
            self.ended = True
        name = self._names.get(place, "")
        if name == "id":
            self.id = _name(value) or self.id
        elif name == "model":
            self.model = _name(value) or self.model
        elif name == "finish":
            if isinstance(value, str) and _REASON.fullmatch(value):
                self._reason = value
                if "[]" not in place:
                    self.reasons[0] = value
        elif name == "index":
            if _is_count(value) and isinstance(value, int):
                self._index = value
        elif name and _is_count(value) and isinstance(value, int):
            self.usage[name] = value

    def bare_word(self, place: str, word: bytes) -> None:
        """The end of a stream."""
        if (place, word.decode()) in self._ends:
            self.ended = True

    def closed(self, place: str) -> None:
        """A choice is over: its reason goes to its index, or to the next one."""
        if not place.endswith("[]"):
            return
        if self._reason:
            index = self._index if self._index >= 0 else len(self.reasons)
            if len(self.reasons) < _MAX_REASONS:
                self.reasons[index] = self._reason
        self._index = -1
        self._reason = ""


class Call(ReadExchange):
    """One exchange with `interface`; `target` and `fields` are those of its request."""

    __slots__ = ("_interface", "_provider", "_request", "_response")

    def __init__(self, interface: Interface, target: bytes, fields: tuple[Field, ...]) -> None:
        self._interface = interface
        self._provider = provider_of(interface, target, field_value(fields, b"host") or b"")
        self._request = _RequestScan(interface)
        self._response = _ResponseScan(interface)

    def request_sink(self) -> JsonScan:
        """Reads the request."""
        return self._request

    def response_sink(self) -> JsonScan:
        """Reads the answer."""
        return self._response

    def said(self, *, request_complete: bool, response_complete: bool) -> GenAi | None:
        """What was read; None if neither content is that of such a call.

        Of a request that was not seen whole, what was found is true as far as it goes.
        """
        request, response = self._request, self._response
        asked = request.asked and (
            request.model is not None or self._provider == AZURE_OPENAI or not request_complete
        )
        if not asked and not response.answered:
            return None
        whole = (response_complete or response.ended) and response.whole and response.answered
        usage: list[tuple[str, int]] = []
        reasons: tuple[str, ...] = ()
        if whole:
            usage = self._usage(response.usage)
            reasons = tuple(response.reasons[index] for index in sorted(response.reasons))
        parameters = dict(request.parameters)
        if parameters.get("choice.count") == 1:
            del parameters["choice.count"]
        return GenAi(
            self._interface.operation,
            self._provider,
            request.model,
            request.stream and request.asked,
            tuple(parameters.items()),
            response.model if response.answered else None,
            response.id if response.answered else None,
            reasons,
            tuple(usage),
        )

    def _usage(self, found: dict[str, int]) -> list[tuple[str, int]]:
        usage = [(name, found[name]) for name in _USAGE if name in found]
        if self._interface.adds_cached and "input_tokens" in found:
            cached = sum(count for name, count in usage if name.startswith("cache_"))
            usage[0] = ("input_tokens", found["input_tokens"] + cached)
        return usage


def _name(value: Scalar) -> str | None:
    return value if isinstance(value, str) and _NAME.fullmatch(value) else None


def _is_number(value: float) -> bool:
    return not isinstance(value, bool) and math.isfinite(value) and abs(value) < _MAX_COUNT


def _is_count(value: Scalar) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_COUNT
