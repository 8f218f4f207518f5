"""grpcio, imported so that it does not write to the terminal.

Owns: the one place where `grpc` is imported; it costs some 50 ms, so only what really speaks gRPC
imports this. Promises: a person's own GRPC_VERBOSITY stands.

grpcio 1.85 logs every connection that a server ends to stderr. Delivery says what matters of that
itself, once per change. The variable is only read when grpc is loaded.
"""

from __future__ import annotations

import os

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import grpc  # the variable is read by now, so not above

__all__ = ["grpc"]
