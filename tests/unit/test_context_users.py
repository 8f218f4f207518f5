"""A name is given only where it is the process's own."""

import os
from pathlib import Path

from otel_tap.context.users import Users, parse_passwd


def process_with_root(tmp_path: Path, root: Path) -> int:
    process = tmp_path / "process"
    process.mkdir()
    (process / "root").symlink_to(root)
    return os.open(process, os.O_RDONLY)


def make_root(path: Path, passwd: str) -> Path:
    (path / "etc").mkdir(parents=True)
    (path / "etc" / "passwd").write_text(passwd)
    return path


def test_a_process_with_the_hosts_passwd_has_the_hosts_name(tmp_path):
    host = make_root(tmp_path / "host", "www:x:33:33::/:/bin/sh\n")
    fd = process_with_root(tmp_path, host)
    users = Users(host / "etc")
    assert users.name(33, fd) == "www"
    assert users.name(34, fd) == "34"
    os.close(fd)


def test_a_process_with_another_passwd_has_a_number(tmp_path):
    host = make_root(tmp_path / "host", "www:x:33:33::/:/bin/sh\n")
    image = make_root(tmp_path / "image", "postgres:x:33:33::/:/bin/sh\n")
    fd = process_with_root(tmp_path, image)
    assert Users(host / "etc").name(33, fd) == "33"
    os.close(fd)


def test_nobody_can_say_whose_passwd_a_process_had_that_has_ended(tmp_path):
    host = make_root(tmp_path / "host", "www:x:33:33::/:/bin/sh\n")
    fd = process_with_root(tmp_path, tmp_path / "gone")
    assert Users(host / "etc").name(33, fd) is None
    os.close(fd)


def test_without_a_passwd_on_either_side_a_user_is_a_number(tmp_path):
    host = make_root(tmp_path / "host", "www:x:33:33::/:/bin/sh\n")
    (tmp_path / "bare").mkdir()
    fd = process_with_root(tmp_path, tmp_path / "bare")
    assert Users(host / "etc").name(33, fd) == "33"
    assert Users(tmp_path / "gone").name(33, fd) == "33"
    assert Users(None).name(33, fd) == "33"
    os.close(fd)


def test_a_changed_passwd_is_read_again(tmp_path):
    host = make_root(tmp_path / "host", "www:x:33:33::/:/bin/sh\n")
    fd = process_with_root(tmp_path, host)
    users = Users(host / "etc")
    assert users.name(33, fd) == "www"
    (host / "etc" / "passwd").write_text("www-data:x:33:33::/:/bin/sh\n")
    assert users.name(33, fd) == "www-data"
    os.close(fd)


def test_lines_that_are_no_entries_are_passed_over():
    content = (
        b"# x\n\nroot:x:0:0::/:/bin/sh\ntoor:x:0:0::/:\n"
        b"bad:x:nine:0::\n:x:5:5::\n+::::\n\xff:x:7:7:::"
    )
    assert parse_passwd(content) == {0: "root", 7: "\\xff"}
