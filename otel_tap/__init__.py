"""otel-tap: plaintext HTTP exchanges of a Linux host as OpenTelemetry spans and logs.

Data flows one way, from left to right; a stage imports only what lies before it::

    bpf/ -> ring -> capture -> connections -> protocols -> exchange
         -> context -> privacy -> telemetry -> delivery

Glossary, after which the code reads itself:

event
    One fact from the kernel (`otel_tap.events`): bytes that moved, a connection that opened,
    a process that started, events that were lost.
connection
    One end of one byte channel: a TCP socket spoken in plain text, or one TLS session.
    Two processes talking on one host are two connections.
end
    The process at one side of a connection. The *client* end sends requests, the *server* end
    receives them.
direction
    Ingress: bytes the process read. Egress: bytes the process wrote.
stream
    All bytes of one connection in one direction, numbered from 0; what was not captured is a gap.
gap
    A stated range of a stream whose bytes are unknown. Its length is always known.
message
    One HTTP request or response as an observer can know it (`otel_tap.messages`).
exchange
    A request with its response, or what is known of them, seen at one end (`otel_tap.exchange`).
turn
    An exchange as compact as it moved (`otel_tap.turn`): both messages whole and plain HTTP/1.
outline
    What a program's heads have in common: their names in their order.
evidence
    What was seen that proves an identity (a peer, a container). Without evidence: "unknown".
origin
    The process, its user, container, pod and host: becomes the OpenTelemetry Resource.
sink
    Whatever encoded telemetry leaves to: an OTLP endpoint, a file, the terminal.
"""

from otel_tap._version import __version__

__all__ = ["__version__"]
