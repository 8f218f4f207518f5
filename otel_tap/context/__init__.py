"""Whose exchange it is: the one stage of the event path that reads `/proc`.

`host` reads the host once, `cgroup` and `environment` are pure and know the texts, `users` knows
names of users, `process` reads one process, `origins` remembers what was read and answers for
every exchange. Nothing here guesses: what was not read stays None.
"""

from otel_tap.context.host import read_host
from otel_tap.context.origins import OriginCounters, Origins, ServiceRule

__all__ = ["OriginCounters", "Origins", "ServiceRule", "read_host"]
