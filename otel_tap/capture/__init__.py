"""From the kernel to events: probes, the ring buffer, discovery of what can be tapped.

Together with `context` the only part that touches the kernel. Everything it yields is one of
`otel_tap.events`, so a file of recorded events can stand in for it.
"""
