"""The command line: reads flags, starts the agent, shows what it finds.

Data goes to stdout, everything else to stderr. What a command needs beyond this package is imported
when the command runs, so that `otel-tap --help` is quick and needs neither root nor libbpf.
"""
