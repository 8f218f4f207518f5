"""Functions of real libraries are found where they are; hostile files are refused with a reason."""

import ctypes.util
import io
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_tap.capture.elf import ElfRefusal, exported_functions, may_define
from otel_tap.capture.plan import make_plan, plan_file
from otel_tap.capture.probes import OPENSSL

LIBSSL = next(Path("/usr/lib").glob("*-linux-gnu/libssl.so.3"), None)


@pytest.mark.skipif(
    LIBSSL is None or shutil.which("readelf") is None, reason="needs libssl.so.3 and readelf"
)
def test_offsets_agree_with_readelf_on_the_system_library():
    assert LIBSSL is not None
    with LIBSSL.open("rb") as file:
        functions = exported_functions(file, OPENSSL.symbols)
    table = subprocess.run(["readelf", "--dyn-syms", "-W", LIBSSL], capture_output=True, text=True)
    expected = {}
    for line in table.stdout.splitlines():
        columns = line.split()
        if len(columns) > 7 and columns[7].split("@")[0] in OPENSSL.symbols:
            expected[columns[7].split("@")[0]] = int(columns[1], 16)
    assert {name: function.address for name, function in functions.items()} == expected
    assert set(expected) >= {probe.symbol for probe in OPENSSL.probes if probe.needed}
    content = LIBSSL.read_bytes()
    for function in functions.values():
        assert content[function.file_offset :].startswith(function.code)


def build(tmp_path: Path, source: str, *flags: str) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler to build a library with")
    (tmp_path / "lib.c").write_text(source)
    path = tmp_path / "lib.so"
    subprocess.run(["gcc", "-o", path, tmp_path / "lib.c", *flags], check=True)
    return path


FUNCTIONS = "".join(f"int {name}(void *s) {{ return s != 0; }}\n" for name in OPENSSL.symbols)


@pytest.mark.parametrize("style", ["gnu", "sysv"])
def test_a_library_of_either_hash_style_is_planned(tmp_path, style):
    path = build(tmp_path, FUNCTIONS, "-shared", "-fPIC", f"-Wl,--hash-style={style}")
    plan = plan_file(str(path))
    assert plan is not None
    assert {s for point in plan.points for s in point.symbols} == set(OPENSSL.symbols)


def test_a_static_program_is_planned_by_its_symbol_table(tmp_path):
    path = build(tmp_path, FUNCTIONS + "int main(void) { return SSL_read(0); }")
    plan = plan_file(str(path))
    assert plan is not None
    assert any("SSL_read" in point.symbols for point in plan.points)


def test_a_program_that_only_uses_the_library_is_not_a_target(tmp_path):
    path = build(
        tmp_path, "int SSL_read(void *); int f(void) { return SSL_read(0); }", "-shared", "-fPIC"
    )
    assert plan_file(str(path)) is None


def test_a_library_without_a_needed_function_is_refused_by_name(tmp_path):
    path = build(tmp_path, "int SSL_read(void *s) { return 0; }", "-shared", "-fPIC")
    with pytest.raises(ElfRefusal, match="has SSL_read but not SSL_free, SSL_new, SSL_write"):
        plan_file(str(path))


def test_aliases_of_one_address_carry_one_probe(tmp_path):
    source = FUNCTIONS.replace("int SSL_read_ex(void *s) { return s != 0; }\n", "")
    source += 'int SSL_read_ex(void *s) __attribute__((alias("SSL_read")));'
    plan = plan_file(str(build(tmp_path, source, "-shared", "-fPIC")))
    assert plan is not None
    assert len({point.address for point in plan.points}) == len(plan.points)
    assert len(plan.points) == len(OPENSSL.symbols) - 1


def looked_at(path: Path) -> bool:
    with path.open("rb") as file:
        return may_define(file, OPENSSL.symbols)


@pytest.mark.parametrize("strip", [(), ("-s",)])
def test_a_first_look_lets_nothing_pass_that_has_one_of_the_functions(tmp_path, strip):
    library = build(tmp_path, FUNCTIONS, "-shared", "-fPIC", *strip)
    assert looked_at(library)
    other = build(tmp_path, "int f(void) { return 0; }", "-shared", "-fPIC", *strip)
    # Hidden functions stand in the other table only, which a look does not read.
    assert looked_at(other) is (not strip)
    program = build(tmp_path, FUNCTIONS + "int main(void) { return SSL_read(0); }")
    assert looked_at(program)


def test_a_first_look_agrees_with_reading_on_the_libraries_of_this_host():
    left_out = 0
    for path in sorted(Path("/usr/lib").glob("*-linux-gnu/lib*.so.*"))[:400]:
        if path.read_bytes()[:4] == b"\x7fELF" and not looked_at(path):
            left_out += 1
            with path.open("rb") as file:
                assert not exported_functions(file, OPENSSL.symbols)
    assert left_out > 0


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"MZ" * 100, b"\x7fELF" + bytes(200)])
def test_what_is_no_elf_file_is_refused(content):
    with pytest.raises(ElfRefusal):
        exported_functions(io.BytesIO(content), ["SSL_read"])


@pytest.mark.skipif(LIBSSL is None, reason="needs libssl.so.3")
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_truncated_and_damaged_libraries_are_read_or_refused(data):
    assert LIBSSL is not None
    content = bytearray(LIBSSL.read_bytes())
    cut = data.draw(st.integers(0, len(content)))
    for _ in range(data.draw(st.integers(0, 20))):
        # Headers are what steers a parser: damage those most.
        region = data.draw(st.sampled_from([64, 4096, len(content)]))
        content[data.draw(st.integers(0, region - 1))] = data.draw(st.integers(0, 255))
    try:
        may_define(io.BytesIO(bytes(content[:cut])), ["SSL_read"])
        functions = exported_functions(io.BytesIO(bytes(content[:cut])), ["SSL_read"])
    except ElfRefusal as refusal:
        assert str(refusal)
    else:
        assert set(functions) <= {"SSL_read"}


@pytest.mark.skipif(ctypes.util.find_library("ssl") is None, reason="no libssl is installed")
def test_the_plan_of_this_host_names_the_installed_library():
    plan = make_plan([])
    assert any("libssl" in target.path for target in plan.targets)
    for target in plan.targets:
        for point in target.probes:
            assert point.reason
            assert point.instruction
