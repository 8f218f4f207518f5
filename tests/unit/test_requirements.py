"""Every check in its three outcomes, on fake hosts, and what tapping refuses."""

from pathlib import Path

import pytest

from otel_tap.errors import HostError, RightsError
from otel_tap.requirements import (
    PROCESS_RIGHTS,
    RIGHTS,
    SAFE_RETURN_PROBES,
    Finding,
    Outcome,
    check_host,
    require,
)

YES, NO, UNKNOWN = Outcome.YES, Outcome.NO, Outcome.UNKNOWN
ALL = "000001ffffffffff"
NONE = "0000000000000000"
BPF_AND_PERFMON = f"{1 << 39 | 1 << 38:016x}"
ADMIN = f"{1 << 21:016x}"

BCC_PACKAGE = "usr/lib/python3/dist-packages/bcc/libbcc.py"
HEADERS = "lib/modules/6.18.44/build/include"

GOOD: dict[str, str] = {
    "proc/sys/kernel/ostype": "Linux\n",
    "proc/sys/kernel/osrelease": "6.18.44\n",
    "proc/sys/kernel/version": "#1 SMP\n",
    "proc/sys/kernel/perf_event_paranoid": "2\n",
    "proc/self/status": f"Name:\tpython\nNSpid:\t7\nCapEff:\t{ALL}\n",
    "sys/kernel/btf/vmlinux": "",
    "sys/kernel/security/lockdown": "[none] integrity confidentiality\n",
    "sys/kernel/tracing/events/enable": "0\n",
    "sys/bus/event_source/devices/uprobe/type": "8\n",
    BCC_PACKAGE: "",
    f"{HEADERS}/linux/.keep": "",
    f"{HEADERS}/uapi/.keep": "",
}
LINKS = {
    "proc/self/ns/pid": "pid:[4026531836]",
    "proc/self/ns/user": "user:[4026531837]",
}


class Machine:
    """A fake host, good but for what a test changes."""

    def __init__(self, path: Path) -> None:
        self.root = path / "root"
        self.objects = path / "objects"
        self.objects.mkdir()
        (self.objects / "bcc").mkdir()
        for name in ("openssl.bpf.o", "bcc/openssl_sockets.c", "bcc/otel_tap.h"):
            (self.objects / name).touch()
        for name, content in GOOD.items():
            self.write(name, content)
        for name, target in LINKS.items():
            self.link(name, target)
        self.machine = "x86_64"
        self.libraries = ["libbpf.so.1"]
        self.loader = "auto"
        self.search: list[str] = []

    def write(self, name: str, content: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def link(self, name: str, target: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    def remove(self, name: str) -> None:
        (self.root / name).unlink()
        for parent in (self.root / name).parents:
            if parent == self.root or any(parent.iterdir()):
                break
            parent.rmdir()

    def capabilities(self, mask: str, pids: str = "7") -> None:
        self.write("proc/self/status", f"Name:\tpython\nNSpid:\t{pids}\nCapEff:\t{mask}\n")

    def load(self, name: str) -> object:
        if name not in self.libraries:
            raise OSError(name)
        return object()

    def check(self) -> list[Finding]:
        return check_host(
            self.root,
            machine=self.machine,
            objects=self.objects,
            load_library=self.load,
            loader=self.loader,
            search=self.search,
            environ={},
        )

    def finding(self, name: str) -> Finding:
        (found,) = [finding for finding in self.check() if finding.name == name]
        return found

    def refusal(self) -> HostError | None:
        try:
            require(self.check())
        except HostError as error:
            return error
        return None


@pytest.fixture
def host(tmp_path):
    return Machine(tmp_path)


def test_a_good_host_is_good_in_every_respect(host):
    assert {finding.outcome for finding in host.check()} == {YES}
    assert all(finding.remedy == "" for finding in host.check())
    assert host.refusal() is None


def test_what_is_not_fulfilled_has_a_remedy_of_one_line(host, tmp_path):
    host.root = host.objects = tmp_path / "bare"
    host.machine = "riscv64"
    host.libraries = []
    findings = host.check()
    assert sum(finding.outcome is NO for finding in findings) >= 5
    for finding in findings:
        assert finding.outcome is not YES or finding.remedy == ""
        assert "\n" not in finding.finding + finding.remedy
        if finding.outcome is NO:
            assert finding.remedy
    assert len({finding.name for finding in findings}) == len(findings)


def test_another_system_is_refused(host):
    host.write("proc/sys/kernel/ostype", "GNU/kFreeBSD\n")
    assert host.finding("linux").outcome is NO
    host.remove("proc/sys/kernel/ostype")
    assert host.finding("linux").outcome is UNKNOWN


def test_another_architecture_is_refused(host):
    for machine in ("riscv64", "aarch64"):
        host.machine = machine
        assert host.finding("architecture").outcome is NO


@pytest.mark.parametrize(
    ("release", "outcome"),
    [("5.10.0", YES), ("5.9.16", NO), ("4.19.0-26-amd64", NO), ("what", UNKNOWN)],
)
def test_a_kernel_before_5_10_is_refused(host, release, outcome):
    host.write("proc/sys/kernel/osrelease", release)
    assert host.finding("kernel").outcome is outcome


def test_a_kernel_without_types_is_refused_where_bcc_cannot_help(host):
    host.remove("sys/kernel/btf/vmlinux")
    host.remove(BCC_PACKAGE)
    assert host.finding("BTF").outcome is NO
    refusal = host.refusal()
    assert refusal is not None
    assert (refusal.check, refusal.exit_code) == ("BTF", 4)
    assert host.finding("loaders").outcome is NO


def test_types_are_not_looked_for_without_sys(host, tmp_path):
    (tmp_path / "bare").mkdir()
    host.root = tmp_path / "bare"
    assert host.finding("BTF").remedy == "mount -t sysfs sysfs /sys"
    assert host.finding("BTF").outcome is UNKNOWN
    assert host.finding("uprobes").outcome is UNKNOWN


def test_a_kernel_without_uprobes_is_refused(host):
    host.write("sys/bus/event_source/devices/cpu/type", "4")
    host.remove("sys/bus/event_source/devices/uprobe/type")
    assert host.finding("uprobes").outcome is NO


@pytest.mark.parametrize(
    ("release", "build", "outcome"),
    [
        ("6.10.14", "", YES),
        ("6.11.0", "", NO),
        ("6.11.11", "", NO),
        ("6.12.13", "", NO),
        ("6.12.14", "", YES),
        ("6.13.2", "", NO),
        ("6.13.3", "", YES),
        ("6.14.0", "", YES),
        ("6.12.9+bpo-amd64", "#1 SMP Debian 6.12.9-1~bpo12+1", NO),
        ("6.12.0-1-amd64", "#1 SMP Debian 6.12.43-1", YES),
        ("6.12.0-55.el10", "", UNKNOWN),
        ("5.14.0-427.el9", "", YES),
        ("what", "", UNKNOWN),
    ],
)
def test_return_probes_are_refused_where_they_may_kill_programs(host, release, build, outcome):
    host.write("proc/sys/kernel/osrelease", release)
    host.write("proc/sys/kernel/version", build)
    assert host.finding(SAFE_RETURN_PROBES).outcome is outcome
    refusal = host.refusal()
    assert (refusal is None) == (outcome is YES)
    if refusal is not None:
        assert refusal.check == SAFE_RETURN_PROBES
        assert not isinstance(refusal, RightsError)


def test_return_probes_are_safe_on_arm(host):
    host.machine = "aarch64"
    host.write("proc/sys/kernel/osrelease", "6.12.1")
    assert host.finding(SAFE_RETURN_PROBES).outcome is YES


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("none [integrity] confidentiality", YES),
        ("none integrity [confidentiality]", NO),
        ("", UNKNOWN),
    ],
)
def test_lockdown_is_refused_when_it_forbids_reading(host, text, outcome):
    host.write("sys/kernel/security/lockdown", text)
    assert host.finding("lockdown").outcome is outcome
    assert (host.refusal() is None) == (outcome is not NO)


@pytest.mark.parametrize(
    ("mask", "release", "outcome"),
    [
        (ALL, "6.18.1", YES),
        (ADMIN, "6.18.1", YES),
        (NONE, "6.1.1", NO),
        (f"{1 << 39:016x}", "6.1.1", NO),
        (BPF_AND_PERFMON, "6.18.1", NO),
        (BPF_AND_PERFMON, "6.1.146", NO),
        (BPF_AND_PERFMON, "6.12.39", NO),
        (BPF_AND_PERFMON, "6.1.145", UNKNOWN),
        (BPF_AND_PERFMON, "5.14.0-427.el9", UNKNOWN),
        (BPF_AND_PERFMON, "what", UNKNOWN),
    ],
)
def test_rights_are_judged_by_capabilities_and_kernel(host, mask, release, outcome):
    host.capabilities(mask)
    host.write("proc/sys/kernel/osrelease", release)
    assert host.finding(RIGHTS).outcome is outcome


@pytest.mark.parametrize(
    ("release", "loader", "outcome"),
    [("6.18.1", "auto", YES), ("6.18.1", "bcc", NO), ("6.8.0-31-generic", "auto", UNKNOWN)],
)
def test_probes_by_links_of_the_kernel_need_no_admin(host, release, loader, outcome):
    host.capabilities(BPF_AND_PERFMON)
    host.write("proc/sys/kernel/osrelease", release)
    host.write("sys/kernel/btf/vmlinux", "\0BPF_TRACE_UPROBE_MULTI\0")
    host.loader = loader
    assert host.finding(RIGHTS).outcome is outcome


def test_only_rights_missing_is_an_error_of_its_own(host):
    host.capabilities(NONE)
    refusal = host.refusal()
    assert isinstance(refusal, RightsError)
    assert (refusal.check, refusal.exit_code) == (RIGHTS, 5)
    assert "sudo" in refusal.remedy
    host.libraries = []
    host.remove(BCC_PACKAGE)
    refusal = host.refusal()
    assert not isinstance(refusal, RightsError)
    assert refusal is not None
    assert (refusal.check, refusal.exit_code) == ("libbpf", 4)


def test_a_plain_user_without_tracefs_lacks_rights_only(host):
    host.capabilities(NONE)
    host.remove("sys/kernel/tracing/events/enable")
    assert isinstance(host.refusal(), RightsError)


def test_root_of_a_user_namespace_has_no_rights(host):
    host.link("proc/self/ns/user", "user:[4026532000]")
    assert host.finding(RIGHTS).outcome is NO


def test_a_host_that_does_not_say_is_not_refused_for_rights(host):
    host.remove("proc/self/status")
    assert host.finding(RIGHTS).outcome is UNKNOWN
    assert host.finding(PROCESS_RIGHTS).outcome is UNKNOWN
    assert host.refusal() is None


def test_other_users_processes_want_rights_but_do_not_stop(host):
    host.capabilities(ADMIN)
    assert host.finding(PROCESS_RIGHTS).outcome is NO
    assert host.refusal() is None


def test_an_agent_in_a_pid_namespace_is_refused(host):
    host.link("proc/self/ns/pid", "pid:[4026532001]")
    assert host.finding("pid namespace").outcome is NO
    host.remove("proc/self/ns/pid")
    assert host.finding("pid namespace").outcome is UNKNOWN
    host.capabilities(ALL, pids="4711\t7")
    assert host.finding("pid namespace").outcome is NO


def test_tracefs_is_mounted_by_the_agent_if_it_may(host):
    host.remove("sys/kernel/tracing/events/enable")
    finding = host.finding("tracefs")
    assert (finding.outcome, finding.needed) == (NO, False)
    assert finding.remedy == "mount -t tracefs nodev /sys/kernel/tracing"
    host.capabilities(BPF_AND_PERFMON)
    assert host.finding("tracefs").needed


def test_tracefs_may_be_mounted_in_its_old_place(host):
    host.remove("sys/kernel/tracing/events/enable")
    host.write("sys/kernel/debug/tracing/events/enable", "0")
    assert host.finding("tracefs").outcome is YES


def test_tracefs_that_may_not_be_looked_into_is_unknown(host, monkeypatch):
    real = Path.stat

    def stat(self: Path, **options: bool) -> object:
        if "tracing" in self.parts:
            raise PermissionError(self)
        return real(self, **options)

    monkeypatch.setattr(Path, "stat", stat)
    assert host.finding("tracefs").outcome is UNKNOWN


def test_a_kernel_without_performance_events_is_refused(host):
    host.remove("proc/sys/kernel/perf_event_paranoid")
    assert host.finding("perf_event_paranoid").outcome is NO
    assert host.finding("perf_event_paranoid").needed


def test_a_missing_library_and_missing_probes_are_said(host):
    host.libraries = []
    assert host.finding("libbpf").remedy == "apt-get install -y libbpf1"
    (host.objects / "openssl.bpf.o").unlink()
    assert host.finding("probe object").remedy == "make setup"
    assert host.finding("loaders").outcome is YES
    (host.objects / "bcc" / "openssl_sockets.c").unlink()
    assert host.finding("bcc program").remedy == "make setup"
    loaders = host.finding("loaders")
    assert loaders.finding == "none; core lacks libbpf, probe object; bcc lacks bcc program"
    assert loaders.remedy == "apt-get install -y libbpf1"


def test_both_loaders_are_named_with_what_they_do_not_see(host):
    text = host.finding("loaders").finding
    assert text.startswith("core; bcc (does not see TCP sequence numbers")


def test_a_kernel_without_types_is_tapped_by_bcc(host):
    host.remove("sys/kernel/btf/vmlinux")
    assert host.refusal() is None
    assert not host.finding("BTF").needed
    loaders = host.finding("loaders")
    assert loaders.outcome is YES
    assert loaders.finding.startswith("bcc (")
    assert loaders.finding.endswith("core lacks BTF")


def test_who_asks_for_core_is_refused_for_what_core_lacks(host):
    host.loader = "core"
    host.remove("sys/kernel/btf/vmlinux")
    refusal = host.refusal()
    assert refusal is not None
    assert refusal.check == "BTF"
    assert host.finding("loaders").outcome is NO


@pytest.mark.parametrize(
    ("missing", "check", "remedy"),
    [
        (BCC_PACKAGE, "bcc package", "apt-get install -y python3-bpfcc"),
        (f"{HEADERS}/uapi/.keep", "kernel headers", "apt-get install -y linux-headers-amd64"),
    ],
)
def test_what_bcc_lacks_stops_only_who_asks_for_bcc(host, missing, check, remedy):
    host.remove(missing)
    assert host.refusal() is None
    assert host.finding("loaders").finding == f"core; bcc lacks {check}"
    host.loader = "bcc"
    refusal = host.refusal()
    assert refusal is not None
    assert (refusal.check, refusal.remedy, refusal.exit_code) == (check, remedy, 4)


def test_headers_of_another_kernel_are_good_enough_and_said(host):
    host.remove(f"{HEADERS}/linux/.keep")
    host.remove(f"{HEADERS}/uapi/.keep")
    for part in ("linux", "uapi"):
        host.write(f"{HEADERS.replace('6.18.44', '6.1.0-9-amd64')}/{part}/.keep", "")
    found = host.finding("kernel headers")
    assert found.outcome is YES
    assert found.finding == (
        "headers of 6.1.0 for kernel 6.18.44: only system call arguments are used"
    )


def test_the_unrelated_project_called_bcc_is_named_for_what_it_is(host, tmp_path):
    host.remove(BCC_PACKAGE)
    (tmp_path / "venv" / "bcc").mkdir(parents=True)
    (tmp_path / "venv" / "bcc" / "__init__.py").touch()
    host.search = [str(tmp_path / "venv")]
    found = host.finding("bcc package")
    assert found.outcome is NO
    assert "unrelated" in found.finding
    assert found.remedy == "apt-get install -y python3-bpfcc"


def test_this_machine_can_be_checked():
    assert {finding.outcome for finding in check_host()} <= set(Outcome)
