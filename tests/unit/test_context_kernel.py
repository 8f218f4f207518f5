"""The version behind a distribution's own number."""

import os

import pytest

from otel_tap.context.kernel import parse_kernel_version, read_kernel_version


@pytest.mark.parametrize(
    ("release", "build", "signature", "version"),
    [
        (
            "6.1.0-18-amd64",
            "#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)",
            "",
            (6, 1, 76),
        ),
        ("6.12.9+bpo-amd64", "#1 SMP Debian 6.12.9-1~bpo12+1", "", (6, 12, 9)),
        (
            "6.8.0-31-generic",
            "#31-Ubuntu SMP PREEMPT_DYNAMIC Sat Apr 20 00:40:06 UTC 2024",
            "Ubuntu 6.8.0-31.31-generic 6.8.1",
            (6, 8, 1),
        ),
        ("6.8.0-31-generic", "#31-Ubuntu SMP", "", (6, 8, None)),
        ("5.14.0-427.13.1.el9_4.x86_64", "#1 SMP", "", (5, 14, None)),
        ("6.12.0-55.9.1.el10_0.x86_64", "#1 SMP", "", (6, 12, None)),
        ("6.12.11-200.fc41.x86_64", "#1 SMP", "", (6, 12, 11)),
        ("6.1.134-150.224.amzn2023.x86_64", "#1 SMP", "", (6, 1, 134)),
        ("6.13.0-arch1-1", "#1 SMP", "", (6, 13, 0)),
        ("6.12.0-rc3", "#1 SMP", "", (6, 12, 0)),
        ("6.18.44-fc-v669", "#1 SMP PREEMPT_DYNAMIC @0", "", (6, 18, 44)),
        ("7.0", "", "", (7, 0, 0)),
    ],
)
def test_the_upstream_version_is_found(release, build, signature, version):
    found = parse_kernel_version(release, build, signature)
    assert found is not None
    assert (found.major, found.minor, found.patch) == version


def test_what_is_no_version_gives_none(tmp_path):
    assert parse_kernel_version("unknown") is None
    assert read_kernel_version(tmp_path) is None


def test_a_version_is_written_as_far_as_it_is_known():
    assert str(parse_kernel_version("6.12.0-55.el10")) == "6.12"
    assert str(parse_kernel_version("6.12.11")) == "6.12.11"


def test_this_kernel_has_the_series_it_says():
    version = read_kernel_version()
    assert version is not None
    assert os.uname().release.startswith(f"{version.major}.{version.minor}")
