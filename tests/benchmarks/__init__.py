"""What tapping costs, measured: `make bench`, or `make bench ONLY=nginx_tls_saturated`.

Rounds are interleaved (untapped, tapped one way, tapped the other, again), so that a machine that
drifts drifts for all of them; what counts are ratios within one run. The agent is `otel-tap run`
as a user starts it, with spans and log records delivered to a collector in a process of its own.
"""
