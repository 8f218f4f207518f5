"""The command line: reads flags, starts the agent, shows what it finds.

Data goes to stdout, everything else to stderr. What a command needs beyond this package is imported
when the command runs, so that `otel-tap --help` is quick and needs neither root nor libbpf.
"""

import os

# pydantic would look through all installed packages for plug-ins of its own: 30 ms of every start,
# and code of others in a program that runs as root.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
