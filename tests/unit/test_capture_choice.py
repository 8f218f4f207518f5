"""Which loader is taken, and what is said of it."""

from typing import Any

import pytest

from otel_tap.capture.choice import open_source
from otel_tap.errors import CaptureError, HostError, RightsError


def fails(error):
    def load(*_: object) -> Any:
        raise error

    return load


def works(name) -> Any:
    return lambda *_: name


def open_by(loader, core, bcc) -> tuple[Any, list[str]]:
    """What came of it, and what was said."""
    said: list[str] = []
    return open_source(loader, 1, said.append, core=core, bcc=bcc), said


NO_BTF = HostError("BTF", "no types", remedy="another kernel")
REFUSED = CaptureError("the kernel refused it")
NO_BCC = HostError("bcc", "no BCC", remedy="install it")


@pytest.mark.parametrize("loader", ["auto", "core"])
def test_core_is_taken_where_it_works(loader):
    assert open_by(loader, works("core"), fails(NO_BCC)) == ("core", [])


@pytest.mark.parametrize("error", [NO_BTF, REFUSED])
def test_auto_falls_back_to_bcc_and_says_so(error):
    source, said = open_by("auto", fails(error), works("bcc"))
    assert source == "bcc"
    assert said == [f"loader: bcc, because core cannot be used: {error.message}"]


def test_who_asks_for_one_loader_gets_no_other():
    with pytest.raises(HostError, match="no types"):
        open_by("core", fails(NO_BTF), works("bcc"))
    with pytest.raises(HostError, match="no BCC"):
        open_by("bcc", works("core"), fails(NO_BCC))
    assert open_by("bcc", works("core"), works("bcc")) == ("bcc", [])


def test_a_lack_of_rights_is_no_reason_to_try_the_other():
    denied = RightsError("rights", "denied", remedy="sudo")
    with pytest.raises(RightsError):
        open_by("auto", fails(denied), works("bcc"))


def test_where_neither_works_the_reasons_of_both_are_said_with_one_remedy():
    error = HostError("BTF", "no types", remedy="another kernel")
    with pytest.raises(HostError) as raised:
        open_by("auto", fails(error), fails(NO_BCC))
    assert raised.value.message == "no types; nor can bcc be used: no BCC"
    assert raised.value.remedy == "another kernel"
