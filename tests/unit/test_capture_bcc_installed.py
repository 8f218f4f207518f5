"""What is found of BCC and of kernel headers on made-up hosts."""

import sys
from pathlib import Path

import pytest

from otel_tap.capture.bcc import program
from otel_tap.capture.bcc.installed import (
    BccPackage,
    compiler_flags,
    describe,
    find_headers,
    find_package,
)
from otel_tap.errors import HostError

RELEASE = "6.18.44-custom"


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def make_tree(root: Path, name: str, *, generated: bool = True, sources: bool = True) -> None:
    for part in ("linux", "uapi") if sources else ():
        (root / name / "include" / part).mkdir(parents=True)
    if generated:
        (root / name / "include" / "generated").mkdir(parents=True)


def debian_pair(root: Path, version: str) -> None:
    """What linux-headers-amd64 puts there: two half trees and the links to them."""
    common, own = (
        f"usr/src/linux-headers-{version}-common",
        f"usr/src/linux-headers-{version}-amd64",
    )
    make_tree(root, common, generated=False)
    make_tree(root, own, sources=False)
    modules = root / "lib/modules" / f"{version}-amd64"
    modules.mkdir(parents=True)
    (modules / "build").symlink_to(root / own)
    (modules / "source").symlink_to(root / common)


def test_the_collection_is_found_in_the_system_s_folder_off_the_path(tmp_path):
    make(tmp_path, "usr/lib/python3/dist-packages/bcc/libbcc.py")
    found = find_package(tmp_path, [])
    assert found == BccPackage(tmp_path / "usr/lib/python3/dist-packages", None)


def test_the_unrelated_project_of_that_name_is_told_apart(tmp_path):
    make(tmp_path, "venv/bcc/__init__.py")
    assert find_package(tmp_path, [str(tmp_path / "venv")]) == BccPackage(None, tmp_path / "venv")


def test_the_unrelated_project_does_not_hide_the_collection(tmp_path):
    make(tmp_path, "venv/bcc/__init__.py", "usr/lib/python3.12/site-packages/bcc/libbcc.py")
    found = find_package(tmp_path, [str(tmp_path / "venv")])
    assert found.folder == tmp_path / "usr/lib/python3.12/site-packages"


@pytest.mark.parametrize(
    ("package", "words"),
    [
        (BccPackage(None, None), "not installed"),
        (BccPackage(None, Path("/venv/lib")), "another project"),
    ],
)
def test_loading_without_the_collection_says_why_and_what_helps(package, words):
    with pytest.raises(HostError, match=words) as raised:
        program.BccKernel(1 << 20, package=package)
    assert raised.value.remedy == "apt-get install -y python3-bpfcc"
    assert raised.value.exit_code == 4


def test_a_collection_that_cannot_be_loaded_is_said_and_leaves_the_import_path_alone(tmp_path):
    make(tmp_path, "bcc/libbcc.py")
    (tmp_path / "bcc/__init__.py").write_text("raise ImportError('libbcc.so.0 is missing')\n")
    path = list(sys.path)
    with pytest.raises(HostError, match=r"libbcc\.so\.0 is missing"):
        program.BccKernel(1 << 20, package=BccPackage(tmp_path, None))
    assert sys.path == path


def test_missing_headers_are_an_error_with_one_remedy(tmp_path, monkeypatch):
    make(tmp_path, "bcc/libbcc.py", "bcc/__init__.py")
    monkeypatch.setattr(program, "find_headers", lambda release: None)
    # An import of this made-up package must not be what later tests find.
    monkeypatch.setitem(sys.modules, "bcc", None)
    with pytest.raises(HostError, match="no kernel headers") as raised:
        program.BccKernel(1 << 20, package=BccPackage(tmp_path, None))
    assert raised.value.check == "kernel headers"
    assert raised.value.remedy == "apt-get install -y linux-headers-amd64"


def test_no_headers_at_all_are_none(tmp_path):
    assert find_headers(RELEASE, tmp_path, {}) is None
    (tmp_path / "lib/modules" / RELEASE).mkdir(parents=True)
    (tmp_path / "lib/modules" / RELEASE / "build").symlink_to(tmp_path / "gone")
    assert find_headers(RELEASE, tmp_path, {}) is None


def test_headers_of_the_running_kernel_come_first(tmp_path):
    debian_pair(tmp_path, "6.1.0-30")
    debian_pair(tmp_path, "6.12.9")
    found = find_headers("6.1.0-30-amd64", tmp_path, {})
    assert found is not None
    assert found.exact
    assert describe(found, "6.1.0-30-amd64") == "headers of this kernel, 6.1.0"
    assert compiler_flags(found, "x86_64") == []


def test_the_kernel_s_own_packed_headers_are_taken(tmp_path):
    make(tmp_path, "sys/kernel/kheaders.tar.xz")
    found = find_headers(RELEASE, tmp_path, {})
    assert found is not None
    assert found.exact


def test_of_other_kernels_the_newest_headers_are_taken_and_said(tmp_path):
    debian_pair(tmp_path, "6.1.0-30")
    debian_pair(tmp_path, "6.12.9")
    debian_pair(tmp_path, "6.9.1")
    found = find_headers(RELEASE, tmp_path, {})
    assert found is not None
    assert found.source == tmp_path / "usr/src/linux-headers-6.12.9-common"
    assert found.generated == tmp_path / "usr/src/linux-headers-6.12.9-amd64"
    assert not found.exact
    assert describe(found, RELEASE) == (
        "headers of 6.12.9 for kernel 6.18.44: only system call arguments are used"
    )
    flags = compiler_flags(found, "x86_64")
    assert f"-I{found.generated}/arch/x86/include/generated" in flags


def test_a_whole_tree_needs_no_other_half(tmp_path):
    make_tree(tmp_path, "usr/src/kernels/6.8.5-301.fc40.x86_64")
    found = find_headers(RELEASE, tmp_path, {})
    assert found is not None
    assert found.source == tmp_path / "usr/src/kernels/6.8.5-301.fc40.x86_64"
    assert (found.generated, found.version) == (None, "6.8.5")


def test_half_a_tree_is_no_tree(tmp_path):
    make_tree(tmp_path, "usr/src/linux-headers-6.1.0-30-common", generated=False)
    make_tree(tmp_path, "usr/src/linux-headers-6.1.0-30-amd64", sources=False)
    assert find_headers(RELEASE, tmp_path, {}) is None


def test_a_folder_of_headers_that_the_user_names_is_left_to_bcc(tmp_path):
    debian_pair(tmp_path, "6.1.0-30")
    found = find_headers(RELEASE, tmp_path, {"BCC_KERNEL_SOURCE": "/opt/linux"})
    assert found is not None
    assert (found.source, found.version) == (None, "/opt/linux")


def test_the_compiler_s_error_is_told_rather_than_its_last_line():
    said = ["warning: x", "/virtual/main.c:3:1: error: unknown type", "1 error generated."]
    assert program.first_error(said) == "/virtual/main.c:3:1: error: unknown type"
    assert program.first_error(["a", "b"]) == "b"
    assert program.first_error([]) == "no reason was given"


def test_the_program_is_one_text_whose_lines_name_their_files(tmp_path):
    (tmp_path / "openssl_sockets.c").write_text('#include "otel_tap.h"\n#include "state.h"\n')
    (tmp_path / "state.h").write_text("int state;\n")
    with pytest.raises(OSError, match=r"otel_tap\.h"):
        program.whole_source(tmp_path)
    (tmp_path / "otel_tap.h").touch()
    assert program.whole_source(tmp_path) == (
        '#line 1 "openssl_sockets.c"\n#include "otel_tap.h"\n#line 1 "state.h"\nint state;\n\n'
    )


def test_every_file_of_the_program_is_put_into_it():
    folder = Path(__file__).parents[2] / "bpf" / "bcc"
    main = (folder / program.SOURCE).read_text()
    for path in folder.glob("*.h"):
        assert f'#include "{path.name}"' in main
