"""Probes sit where the machine code proves that they see the same, and nowhere else."""

import io
import platform
import shutil
import site
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_tap.capture.elf import ElfRefusal, Function, read_image
from otel_tap.capture.listing import Listing
from otel_tap.capture.placement import Place, place
from otel_tap.capture.plan import plan_file
from otel_tap.capture.probes import LIBRARIES, Probe

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="only x86-64 code is read; its compiler is needed too"
)

PROBES = {probe.symbol: probe for library in LIBRARIES for probe in library.probes}
SYSTEM = sorted(Path("/usr/lib/x86_64-linux-gnu").glob("libssl.so.3"))
BUNDLED = sorted(
    path for folder in site.getsitepackages() for path in Path(folder).glob("*.libs/libssl*")
)


def build(tmp_path: Path, source: str, *flags: str) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler to build functions with")
    (tmp_path / "lib.c").write_text(source)
    path = tmp_path / "lib.so"
    subprocess.run(
        ["gcc", "-O2", "-shared", "-fPIC", "-fcf-protection=none", "-o", path,
         tmp_path / "lib.c", *flags],
        check=True,
    )  # fmt: skip
    return path


def places(path: Path, *symbols: str) -> dict[str, tuple[Place, int]]:
    """Of each function its place and its own address."""
    with path.open("rb") as file:
        image = read_image(file, symbols)
        listing = Listing(image)
        return {
            name: (place(listing, PROBES[name]), function.address)
            for name, function in image.functions.items()
        }


def placed(path: Path, symbol: str) -> tuple[Place, int]:
    return places(path, symbol)[symbol]


def assert_at_symbol(path: Path, symbol: str, *reason: str) -> None:
    found, address = placed(path, symbol)
    assert found.address == address
    assert found.entry_program == PROBES[symbol].entry_program
    assert any(part in found.proof for part in reason), found.proof


def assembled(tmp_path: Path, body: str, symbol: str = "SSL_read") -> Path:
    source = f'__asm__(".globl {symbol}\\n.type {symbol},@function\\n{symbol}:\\n'
    source += body.strip().replace("\n", "\\n").replace('"', '\\"')
    source += f'\\n.size {symbol},.-{symbol}\\n");'
    return build(tmp_path, source)


# Real libraries: the bundled ones come with the Python packages that the tests depend on.


@pytest.mark.skipif(len(BUNDLED) < 3, reason="the bundled builds are not installed")
def test_there_are_three_bundled_builds_to_plan_for():
    assert len({path.read_bytes() for path in BUNDLED}) >= 3


@pytest.mark.parametrize("path", SYSTEM + BUNDLED, ids=lambda path: path.name)
def test_every_hot_probe_of_a_real_library_sits_on_an_emulated_instruction(path):
    plan = plan_file(str(path))
    assert plan is not None
    hot = [p for p in plan.points if any("read" in s or "write" in s for s in p.symbols)]
    assert len(hot) == 2, "the forms of one direction share one probe"
    for point in hot:
        assert point.emulated
        assert point.moved
        assert point.return_program == "ssl_return"
        assert "only calls" in point.reason
    assert {"SSL_read", "SSL_read_ex"} in [set(point.symbols) for point in hot]


@pytest.mark.parametrize("path", SYSTEM + BUNDLED, ids=lambda path: path.name)
def test_the_inner_function_of_a_real_library_is_what_its_disassembly_calls(path):
    if shutil.which("objdump") is None:
        pytest.skip("objdump is not installed")
    listing = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", "--disassemble=SSL_read", path],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    called = [line.split("call")[1].split()[0] for line in listing.splitlines() if "call" in line]
    found, _ = placed(path, "SSL_read")
    assert f"{found.function:x}" == called[0]
    assert found.entry_program == "ssl_read_inner"


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_a_program_with_frame_pointers_is_tapped_at_its_symbols_which_are_emulated():
    plan = plan_file(str(Path(shutil.which("node") or "").resolve()))
    if plan is None:
        pytest.skip("this node does not bring its own OpenSSL")
    for point in plan.points:
        if point.symbols[0] in ("SSL_read", "SSL_write", "SSL_read_ex", "SSL_write_ex"):
            assert point.emulated


def test_asked_for_symbols_nothing_moves():
    for path in SYSTEM + BUNDLED:
        plan = plan_file(str(path), "symbol")
        assert plan is not None
        assert not plan.moved
    if not SYSTEM + BUNDLED:
        pytest.skip("no libssl is installed")


# Shapes of wrappers, made by the compiler.

INNER = """
typedef unsigned long size;
int cond(void *); extern int other(void *, void *, size, size *);
__attribute__((noinline, noclone)) static int inner(void *s, void *b, size n, size *done)
{
    volatile char room[64]; room[0] = n; __asm__ volatile("" ::: "rbx", "r12", "memory");
    *done = n; return s && b && room[0] ? 1 : -1;
}
"""
WRAPPER = """
int SSL_read(void *s, void *b, int n)
{
    size done; int result;
    if (n < 0) return -1;
    result = inner(s, b, (size)n, &done);
    if (result > 0) result = (int)done;
    return result;
}
int SSL_read_ex(void *s, void *b, size n, size *done)
{
    int result = inner(s, b, n, done);
    return result < 0 ? 0 : result;
}
"""


@pytest.mark.parametrize(
    "flags",
    [
        ("-fomit-frame-pointer",),
        ("-fcf-protection=full",),
        ("-fstack-protector-strong",),
        ("-fstack-protector-all", "-fcf-protection=full"),
        ("-fomit-frame-pointer", "-s"),
        ("-fzero-call-used-regs=used-gpr",),
    ],
)
def test_a_thin_wrapper_is_followed_however_it_was_compiled(tmp_path, flags):
    path = build(tmp_path, INNER + WRAPPER, *flags)
    found = places(path, "SSL_read", "SSL_read_ex")
    read, read_at = found["SSL_read"]
    read_ex, _ = found["SSL_read_ex"]
    assert read.emulated
    assert read.entry_program == "ssl_read_inner"
    assert read.function != read_at
    assert read.address - read.function in (0, 4)
    assert read_ex.address == read.address


def test_a_wrapper_that_begins_with_push_needs_no_other_place(tmp_path):
    path = assembled(tmp_path, "push %rbp\nmov %rsp,%rbp\npop %rbp\nret")
    found, address = placed(path, "SSL_read")
    assert (found.address, found.emulated, found.entry_program) == (address, True, "ssl_read")


def test_endbr64_before_push_is_skipped_also_for_a_return_probe(tmp_path):
    path = assembled(tmp_path, "endbr64\npush %rbx\nmov %rdi,%rbx\npop %rbx\nret")
    found, address = placed(path, "SSL_read")
    assert found.address == address + 4
    assert found.emulated


def test_a_fifth_argument_takes_the_program_that_reads_it(tmp_path):
    source = INNER.replace("size n, size *done", "size n, unsigned long flags, size *done").replace(
        "*done = n;", "*done = n + flags;"
    )
    source += (
        WRAPPER.replace("(size)n, &done", "(size)n, 0, &done")
        .replace("b, n, done", "b, n, 0, done")
        .replace("SSL_read", "SSL_write")
    )
    found = places(build(tmp_path, source), "SSL_write", "SSL_write_ex")
    assert {where.entry_program for where, _ in found.values()} == {"ssl_write_inner5"}
    assert len({where.address for where, _ in found.values()}) == 1


# Traps: each looks like a wrapper and is none, so the symbol has to stay.

CALL = "inner(s, b, (size)n, &done)"
TRAPS = {
    "another buffer is passed": (CALL, "inner(s, (char *)b + 1, (size)n, &done)"),
    "another session is passed": (CALL, "inner(*(void **)s, b, (size)n, &done)"),
    "buffer and session change places": (CALL, "inner(b, s, (size)n, &done)"),
    "another length is passed": (CALL, "inner(s, b, (size)n / 2, &done)"),
    "the pointer is not its own": ("&done", "(size *)s"),
    "the call is conditional": ("if (n < 0)", "if (*(int *)s)"),
    "the number comes from elsewhere": ("result = (int)done", "result = n"),
    "something else is called before": ("result = inner(", "cond(s); result = inner("),
    "something else is called after": ("return result;", "return result + cond(s);"),
    "there are two callees": (
        "result = inner(s, b, (size)n, &done);",
        "result = *(int *)s ? inner(s, b, (size)n, &done) : other(s, b, (size)n, &done);",
    ),
    "the callee is in another library": ("result = inner(", "result = other("),
    "it is called twice": (
        "result = inner(s, b, (size)n, &done);",
        "result = inner(s, b, (size)n, &done); result += inner(s, b, (size)n, &done);",
    ),
}  # fmt: skip


@pytest.mark.parametrize("trap", TRAPS)
def test_what_only_looks_like_a_thin_wrapper_is_not_followed(tmp_path, trap):
    old, new = TRAPS[trap]
    wrapper = WRAPPER.split("int SSL_read_ex", maxsplit=1)[0]
    assert old in wrapper
    path = build(tmp_path, INNER + wrapper.replace(old, new), "-fomit-frame-pointer")
    found, address = placed(path, "SSL_read")
    assert found.function == address, found.proof
    assert found.entry_program == "ssl_read"
    # Its own branch on the length may carry the probe: nothing is changed before it.
    assert found.address == address or found.instruction.startswith("j"), found.proof


def test_an_argument_that_is_overwritten_before_the_push_keeps_the_symbol(tmp_path):
    path = assembled(tmp_path, "mov (%rdi),%rdi\npush %rbx\npop %rbx\nret")
    assert_at_symbol(path, "SSL_read", "single-stepped", "before any call")


def test_half_an_argument_that_is_overwritten_keeps_the_symbol(tmp_path):
    path = assembled(tmp_path, "mov %edi,%edi\npush %rbx\npop %rbx\nret")
    assert_at_symbol(path, "SSL_read", "single-stepped", "before any call")


def test_a_changed_stack_pointer_keeps_the_symbol_of_a_return_probe(tmp_path):
    path = assembled(tmp_path, "sub $8,%rsp\npush %rbx\npop %rbx\nadd $8,%rsp\nret")
    assert_at_symbol(path, "SSL_read", "before any call")


def test_a_jump_into_the_middle_keeps_the_symbol(tmp_path):
    body = "test %rdi,%rdi\n1: push %rbx\npop %rbx\ndec %rsi\njnz 1b\nret"
    assert_at_symbol(assembled(tmp_path, body, "SSL_free"), "SSL_free", "leads behind its entry")
    without = assembled(tmp_path, body.replace("jnz 1b", "jnz 2f\n2:"), "SSL_free")
    assert placed(without, "SSL_free")[0].emulated


def test_a_jump_table_keeps_the_symbol_for_nobody_knows_where_it_leads(tmp_path):
    body = "test %rdi,%rdi\npush %rbx\npop %rbx\nlea 1f(%rip),%rax\nmovslq (%rax,%rdi,4),%rcx\n"
    body += "add %rcx,%rax\njmp *%rax\n1: .long 0"
    assert_at_symbol(assembled(tmp_path, body, "SSL_free"), "SSL_free", "is not known")


def test_a_jump_through_a_stored_pointer_is_a_call_of_another_function(tmp_path):
    body = "test %rdi,%rdi\npush %rbx\npop %rbx\nmov 8(%rdi),%rax\njmp *%rax"
    found, address = placed(assembled(tmp_path, body, "SSL_free"), "SSL_free")
    assert found.address == address + 3


def test_a_tail_jump_does_not_bring_a_number_back(tmp_path):
    body = "mov %rsp,%rcx\nsub $8,%rcx\njmp 1f\n1: push %rbx\npop %rbx\nret"
    found, _ = placed(assembled(tmp_path, body), "SSL_read")
    assert found.entry_program == "ssl_read"


OTHERS = "void *SSL_free(void *s) { return s; } void *SSL_new(void *s) { return s; }\n"
WRITE = WRAPPER.replace("SSL_read", "SSL_write").split("int SSL_write_ex", maxsplit=1)[0]


def test_forms_that_reach_one_inner_function_share_one_probe(tmp_path):
    second = INNER.split("__attribute__", 1)[1].replace("inner", "second")
    write = WRITE.replace("inner", "second").replace("*done = n;", "*done = n + 1;")
    source = INNER + "__attribute__" + second.replace("*done = n;", "*done = n + 1;")
    plan = plan_file(str(build(tmp_path, source + WRAPPER + write + OTHERS)))
    assert plan is not None
    by_symbol = {symbol: point for point in plan.points for symbol in point.symbols}
    assert by_symbol["SSL_read"] is by_symbol["SSL_read_ex"]
    assert by_symbol["SSL_read"].entry_program == "ssl_read_inner"
    assert by_symbol["SSL_write"].entry_program == "ssl_write_inner"
    assert by_symbol["SSL_write"].address != by_symbol["SSL_read"].address


def test_one_function_cannot_be_read_and_write_so_both_keep_their_symbols(tmp_path):
    plan = plan_file(str(build(tmp_path, INNER + WRAPPER + WRITE + OTHERS)))
    assert plan is not None
    by_symbol = {symbol: point for point in plan.points for symbol in point.symbols}
    for symbol in ("SSL_read", "SSL_write"):
        assert by_symbol[symbol].symbols == (symbol,)
        assert not by_symbol[symbol].moved
        assert "another function's too" in by_symbol[symbol].reason


def test_code_for_another_machine_keeps_its_symbols_and_says_why():
    for path in SYSTEM + BUNDLED:
        content = bytearray(path.read_bytes())
        content[18:20] = struct.pack("<H", 183)  # EM_AARCH64
        image = read_image(io.BytesIO(bytes(content)), ["SSL_read"])
        found = place(Listing(image), PROBES["SSL_read"])
        assert found.address == image.functions["SSL_read"].address
        assert "aarch64" in found.proof
        return
    pytest.skip("no libssl is installed")


class Code:
    """An image that is nothing but code at address 0x1000."""

    machine = "x86_64"

    def __init__(self, content: bytes, symbol: str) -> None:
        self._content = content
        self.functions = {symbol: Function(symbol, 0x1000, 0x1000, content[:16])}

    def code(self, address: int, size: int) -> bytes:
        begin = address - 0x1000
        return self._content[begin : begin + size] if begin >= 0 else b""

    def imported(self, slot: int) -> str | None:
        return None


FRAGMENTS = st.sampled_from(
    [
        bytes.fromhex(code)
        for code in (
            "f30f1efa", "55", "4154", "90", "4883ec18", "4883c418", "85d2", "7802", "78f0",
            "4863d2", "488d4c2408", "e800000000", "e8f0ffffff", "ebfe", "eb02", "e9fbffffff", "c3",
            "31c9", "8b442408", "0f4f442408", "85c0", "4989c8", "ffe0", "ff2500000000", "0f05",
            "4889f7",
        )
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.binary(max_size=400), st.lists(FRAGMENTS, max_size=60).map(b"".join)),
    st.sampled_from(sorted(PROBES)),
)
def test_any_code_gets_a_place_on_an_instruction_that_its_path_reaches(content, symbol):
    image: object = Code(content, symbol)
    probe: Probe = PROBES[symbol]
    found = place(Listing(image), probe)  # type: ignore[arg-type]
    assert found.proof
    if found.address == 0x1000:
        return
    assert found.emulated
    assert 0x1000 < found.address + 1 <= 0x1000 + len(content)


@pytest.mark.skipif(not SYSTEM, reason="no libssl is installed")
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_libraries_are_planned_or_refused(tmp_path_factory, data):
    content = bytearray(SYSTEM[0].read_bytes())
    for _ in range(data.draw(st.integers(1, 40))):
        region = data.draw(st.sampled_from([(0, 4096), (0x35000, 0x36000), (0, len(content))]))
        content[data.draw(st.integers(region[0], region[1] - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "libssl.so"
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        plan = plan_file(str(path))
    except ElfRefusal as refusal:
        assert str(refusal)
    else:
        assert plan is None or plan.points
    finally:
        path.unlink()
