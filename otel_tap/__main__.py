"""`python -m otel_tap` is the command `otel-tap`."""

from otel_tap.cli.main import main

if __name__ == "__main__":
    main()
