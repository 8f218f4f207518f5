"""Regular expressions say the same on every CPython that the agent runs on."""

import re
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "otel_tap"
GROUP_REPEATED_POSSESSIVELY = re.compile(r"(?<!\\)\)(?:[*+?]|\{[\d,]+\})\+|\(\?>")


def test_no_group_is_repeated_possessively():
    """3.11.0 to 3.11.4, Debian 12's among them, match that wrongly: secrets were passed on."""
    assert GROUP_REPEATED_POSSESSIVELY.search(r"(?:a|b)*+")
    found = [
        f"{path.name}: {line.strip()}"
        for path in SOURCES.rglob("*.py")
        for line in path.read_text().splitlines()
        if GROUP_REPEATED_POSSESSIVELY.search(line)
    ]
    assert not found
