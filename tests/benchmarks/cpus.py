"""Who runs where: load and server on one CPU, the agent and its collector on the other.

What the agent itself takes of a CPU then does not hide in the throughput of the programs, which
shows what the probes cost them; it is measured apart. With one CPU all share it.

Each of them ends with the benchmark, also with one that is killed.
"""

from __future__ import annotations

import os

_CPUS = sorted(os.sched_getaffinity(0))
_ENDS_WITH_US = ["setpriv", "--pdeathsig", "TERM"]

LOAD = [*_ENDS_WITH_US, "taskset", "-c", str(_CPUS[0])]
"""Prefix of commands that are load, server or bystander."""

AGENT = [*_ENDS_WITH_US, "taskset", "-c", str(_CPUS[-1])]
"""Prefix of the agent's and the collector's command."""
