"""The interfaces of generative models that are known, and where their JSON says what.

Owns paths and places, and no code that reads them. Sources: the references of OpenAI (chat
completions, completions, responses, embeddings) and of Azure OpenAI, of Anthropic (messages) and of
Ollama, and what of it the OpenTelemetry conventions for generative AI have names for.

Names of parameters and token counts are those of the conventions, without `gen_ai.request.` and
`gen_ai.usage.`. Others: `model`, `stream`, and of answers `id`, `finish` (a reason), `index` (the
choice that it is the reason of).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CHAT: Final = "chat"
TEXT_COMPLETION: Final = "text_completion"
EMBEDDINGS: Final = "embeddings"

OPENAI: Final = "openai"
AZURE_OPENAI: Final = "azure.ai.openai"
ANTHROPIC: Final = "anthropic"
OLLAMA: Final = "ollama"


@dataclass(frozen=True, slots=True)
class Interface:
    """One kind of call."""

    operation: str
    provider: str
    asked_by: str  # a key that every request has, besides the model
    answered_by: str  # a key that every good answer, or piece of it, has
    request: dict[str, str]  # place -> name
    response: dict[str, str]
    streams_unasked: bool = False  # unless `stream` is false
    # Places and values by which a stream says that it is over; clients often close right then.
    ends: tuple[tuple[str, str | bool], ...] = ()
    adds_cached: bool = False  # cached tokens are not in the count of input tokens


_DONE = (("[]", "DONE"),)  # `data: [DONE]`
_OPENAI_REQUEST: Final = {
    "model": "model",
    "stream": "stream",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "seed": "seed",
    "n": "choice.count",
}
_OPENAI_RESPONSE: Final = {
    "id": "id",
    "model": "model",
    "choices[].index": "index",
    "choices[].finish_reason": "finish",
    "usage.prompt_tokens": "input_tokens",
    "usage.completion_tokens": "output_tokens",
    "usage.prompt_tokens_details.cached_tokens": "cache_read.input_tokens",
    "usage.completion_tokens_details.reasoning_tokens": "reasoning.output_tokens",
}
_RESPONSES_RESPONSE: Final = {
    "id": "id",
    "model": "model",
    "usage.input_tokens": "input_tokens",
    "usage.output_tokens": "output_tokens",
    "usage.input_tokens_details.cached_tokens": "cache_read.input_tokens",
    "usage.output_tokens_details.reasoning_tokens": "reasoning.output_tokens",
}
_ANTHROPIC_USAGE: Final = {
    "usage.input_tokens": "input_tokens",
    "usage.output_tokens": "output_tokens",
    "usage.cache_read_input_tokens": "cache_read.input_tokens",
    "usage.cache_creation_input_tokens": "cache_creation.input_tokens",
}
_ANTHROPIC_MESSAGE: Final = {"id": "id", "model": "model"} | _ANTHROPIC_USAGE
_OLLAMA_REQUEST: Final = {
    "model": "model",
    "stream": "stream",
    "options.num_predict": "max_tokens",
    "options.temperature": "temperature",
    "options.top_p": "top_p",
    "options.top_k": "top_k",
    "options.frequency_penalty": "frequency_penalty",
    "options.presence_penalty": "presence_penalty",
    "options.seed": "seed",
}
_OLLAMA_RESPONSE: Final = {
    "model": "model",
    "done_reason": "finish",
    "prompt_eval_count": "input_tokens",
    "eval_count": "output_tokens",
}


def _within(key: str, places: dict[str, str]) -> dict[str, str]:
    return {f"{key}.{place}": name for place, name in places.items()}


_CHAT: Final = Interface(
    CHAT, OPENAI, "messages", "choices", _OPENAI_REQUEST, _OPENAI_RESPONSE, ends=_DONE
)
_COMPLETIONS: Final = Interface(
    TEXT_COMPLETION, OPENAI, "prompt", "choices", _OPENAI_REQUEST, _OPENAI_RESPONSE, ends=_DONE
)
_EMBEDDINGS: Final = Interface(
    EMBEDDINGS,
    OPENAI,
    "input",
    "data",
    {"model": "model"},
    {"model": "model", "usage.prompt_tokens": "input_tokens"},
)
_RESPONSES: Final = Interface(
    CHAT,
    OPENAI,
    "input",
    "output",
    {
        "model": "model",
        "stream": "stream",
        "max_output_tokens": "max_tokens",
        "temperature": "temperature",
        "top_p": "top_p",
    },
    # Streamed, each state of the response is in an event of its own.
    _RESPONSES_RESPONSE | _within("response", _RESPONSES_RESPONSE),
    ends=(("type", "response.completed"), ("type", "response.incomplete")),
)
_MESSAGES: Final = Interface(
    CHAT,
    ANTHROPIC,
    "messages",
    "stop_reason",
    {
        "model": "model",
        "stream": "stream",
        "max_tokens": "max_tokens",
        "temperature": "temperature",
        "top_p": "top_p",
        "top_k": "top_k",
    },
    # Streamed, `message_start` holds the message, `message_delta` what became of it.
    _ANTHROPIC_MESSAGE
    | {"stop_reason": "finish", "delta.stop_reason": "finish"}
    | _within("message", _ANTHROPIC_MESSAGE),
    ends=(("type", "message_stop"),),
    adds_cached=True,
)
_OLLAMA_CHAT: Final = Interface(
    CHAT,
    OLLAMA,
    "messages",
    "done",
    _OLLAMA_REQUEST,
    _OLLAMA_RESPONSE,
    streams_unasked=True,
    ends=(("done", True),),
)
_OLLAMA_GENERATE: Final = Interface(
    TEXT_COMPLETION,
    OLLAMA,
    "prompt",
    "done",
    _OLLAMA_REQUEST,
    _OLLAMA_RESPONSE,
    streams_unasked=True,
    ends=(("done", True),),
)
_OLLAMA_EMBED: Final = Interface(
    EMBEDDINGS, OLLAMA, "input", "embeddings", {"model": "model"}, _OLLAMA_RESPONSE
)

# The ends of paths; what stands before is a matter of who offers the interface.
_BY_PATH = (
    (b"/chat/completions", _CHAT),
    (b"/v1/completions", _COMPLETIONS),
    (b"/v1/embeddings", _EMBEDDINGS),
    (b"/v1/responses", _RESPONSES),
    (b"/openai/responses", _RESPONSES),
    (b"/v1/messages", _MESSAGES),
    (b"/api/chat", _OLLAMA_CHAT),
    (b"/api/generate", _OLLAMA_GENERATE),
    (b"/api/embed", _OLLAMA_EMBED),
)
_BY_LAST: Final = {
    b"completions": _COMPLETIONS,
    b"embeddings": _EMBEDDINGS,
}
_LAST_SEGMENTS: Final = frozenset(path.rpartition(b"/")[2] for path, _ in _BY_PATH)
_DEPLOYMENTS: Final = b"/openai/deployments/"

# Hosts that offer the interface of OpenAI and have a name of their own in the conventions.
_PROVIDERS = (
    (b"api.openai.com", OPENAI),
    (b".openai.azure.com", AZURE_OPENAI),
    (b".cognitiveservices.azure.com", AZURE_OPENAI),
    (b"api.groq.com", "groq"),
    (b"api.deepseek.com", "deepseek"),
    (b"api.mistral.ai", "mistral_ai"),
    (b"api.moonshot.ai", "moonshot_ai"),
    (b"api.perplexity.ai", "perplexity"),
    (b"api.x.ai", "x_ai"),
)


def interface_of(method: bytes, target: bytes) -> Interface | None:
    """The interface that a request may be a call of, by its path."""
    if method != b"POST":
        return None
    path = target.partition(b"?")[0]
    last = path.rpartition(b"/")[2]
    if last not in _LAST_SEGMENTS:
        return None
    for end, interface in _BY_PATH:
        if path.endswith(end):
            return interface
    # Azure: /openai/deployments/NAME/completions
    return _BY_LAST.get(last) if _DEPLOYMENTS in path else None


def provider_of(interface: Interface, target: bytes, host: bytes) -> str:
    """Whose interface it is: by the host where that is known, else by the path."""
    if interface.provider != OPENAI:
        return interface.provider
    name = host.rpartition(b":")[0] if host[-1:].isdigit() and b":" in host else host
    name = name.lower()
    for known, provider in _PROVIDERS:
        if name == known or (known[:1] == b"." and name.endswith(known)):
            return provider
    return AZURE_OPENAI if _DEPLOYMENTS in target.partition(b"?")[0] else OPENAI
