"""`otel-tap demo`: a real HTTPS service and real clients, tapped before one's eyes.

Proves itself: the clients' own count, the server's log and the spans that arrive at a collector
must agree. Where probes cannot be loaded, a recording of this very demo takes the same way.
"""

from otel_tap.demo.show import run_demo

__all__ = ["run_demo"]
