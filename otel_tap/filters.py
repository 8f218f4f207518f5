"""Which exchanges are wanted: the filters of the command line and of the configuration.

Owns: what `--pid --comm --exe --user --container --pod --host --method --path --status` and their
`--exclude-` twins mean. Promises: pure; values of one name are alternatives, names must all hold,
an exclusion wins. What is unknown matches no value, neither to include nor to exclude.
Must not know: the command line's syntax.

- `pid`: a number. `user`: the user's name, or its number where it has no name.
- `comm`, `exe`: globs on the name and on the path of the executable. `comm` also matches what the
  process calls itself (argv[0]) and the 15 bytes that the kernel keeps of a name.
- `container`: the beginning of an id. `pod`: the beginning of a uid, or a glob on the pod's name
  where the process declares it (`k8s.pod.name`).
- `host`: a glob on the host that the request names, without port. `method`: in any case.
- `path`: a glob on the path without its query; `*` also matches `/`.
- `status`: `404`, `4xx` or `400-499`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import translate
from typing import Final

from otel_tap.errors import ConfigError
from otel_tap.exchange import Exchange
from otel_tap.messages import Request, field_value
from otel_tap.origin import Origin

PROCESS_NAMES = ("pid", "comm", "exe", "user", "container", "pod")
EXCHANGE_NAMES = ("host", "method", "path", "status")
NAMES: Final = PROCESS_NAMES + EXCHANGE_NAMES

_MAX_COMM: Final = 15  # TASK_COMM_LEN without its terminator

_ProcessTest = Callable[[Origin], bool]
_ExchangeTest = Callable[[Exchange], bool]

_CONTAINER: Final = re.compile(r"[0-9a-f]{1,64}\Z")
_STATUS: Final = re.compile(r"(?:([1-9])[xX]{2}|([1-9]\d\d)(?:-([1-9]\d\d))?)\Z")
_METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # a token of RFC 9110


class ExchangeFilter:
    """Decides about processes and exchanges.

    `include` and `exclude` map names of `NAMES` to values; a name without values is no condition.
    Raises ConfigError, naming the flag and an example, for a name or value that cannot be.
    """

    __slots__ = (
        "_exchange_excludes",
        "_exchange_includes",
        "_process_excludes",
        "_process_includes",
    )

    def __init__(
        self,
        include: Mapping[str, Sequence[str]] | None = None,
        exclude: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._process_includes = _process_tests(include or {}, "--")
        self._process_excludes = _process_tests(exclude or {}, "--exclude-")
        self._exchange_includes = _exchange_tests(include or {}, "--")
        self._exchange_excludes = _exchange_tests(exclude or {}, "--exclude-")

    @property
    def is_empty(self) -> bool:
        """Whether everything matches."""
        return not (
            self._process_includes
            or self._process_excludes
            or self._exchange_includes
            or self._exchange_excludes
        )

    @property
    def asks_exchanges(self) -> bool:
        """Whether exchanges of one process can differ."""
        return bool(self._exchange_includes or self._exchange_excludes)

    def matches_process(self, origin: Origin) -> bool:
        """Whether any exchange of this process can be wanted."""
        # Most filters have few kinds of tests: an empty tuple is decided without a generator.
        included, excluded = self._process_includes, self._process_excludes
        if included and not all(wanted(origin) for wanted in included):
            return False
        return not (excluded and any(unwanted(origin) for unwanted in excluded))

    def matches(self, exchange: Exchange, origin: Origin) -> bool:
        """Whether this exchange is wanted."""
        if not self.matches_process(origin):
            return False
        included, excluded = self._exchange_includes, self._exchange_excludes
        if included and not all(wanted(exchange) for wanted in included):
            return False
        return not (excluded and any(unwanted(exchange) for unwanted in excluded))


def host_of(request: Request) -> str | None:
    """The host that a request names, lower-case, without port: its target's, else Host."""
    target = request.target
    if request.method == b"CONNECT" and target[:1] != b"/":
        authority = target
    else:
        _, separator, rest = target.partition(b"://")
        if separator and not target.startswith(b"/"):
            authority = re.split(rb"[/?#]", rest, maxsplit=1)[0]
        else:
            authority = (
                field_value(request.fields, b":authority")
                or field_value(request.fields, b"host")
                or b""
            )
    host = _text(authority.rpartition(b"@")[2]).lower()
    if host.startswith("["):
        return host[1:].partition("]")[0] or None
    return host.partition(":")[0] or None


def path_of(request: Request) -> str | None:
    """The path of a request's target; None when the target has none (`*`, CONNECT)."""
    target = request.target
    if not target.startswith(b"/"):
        _, separator, rest = target.partition(b"://")
        if not separator:
            return None
        start = re.search(rb"[/?#]", rest)
        target = rest[start.start() :] if start else b""
    path = re.split(rb"[?#]", target, maxsplit=1)[0]
    return _text(path) or "/"


def _process_tests(values: Mapping[str, Sequence[str]], prefix: str) -> tuple[_ProcessTest, ...]:
    makers: dict[str, Callable[[Sequence[str], str], _ProcessTest]] = {
        "pid": _pid_test,
        "comm": _comm_test,
        "exe": _exe_test,
        "user": _user_test,
        "container": _container_test,
        "pod": _pod_test,
    }
    _check_names(values)
    return tuple(makers[n](values[n], prefix + n) for n in PROCESS_NAMES if values.get(n))


def _exchange_tests(values: Mapping[str, Sequence[str]], prefix: str) -> tuple[_ExchangeTest, ...]:
    makers: dict[str, Callable[[Sequence[str], str], _ExchangeTest]] = {
        "host": _host_test,
        "method": _method_test,
        "path": _path_test,
        "status": _status_test,
    }
    return tuple(makers[n](values[n], prefix + n) for n in EXCHANGE_NAMES if values.get(n))


def _pid_test(values: Sequence[str], flag: str) -> _ProcessTest:
    pids: set[int] = set()
    for value in values:
        if not (value.isascii() and value.isdigit() and int(value) > 0):
            raise _bad(flag, value, "is no process id", "1234")
        pids.add(int(value))
    return lambda origin: origin.pid in pids


def _comm_test(values: Sequence[str], flag: str) -> _ProcessTest:
    glob = _glob(values, flag, "nginx*")

    def test(origin: Origin) -> bool:
        name = origin.executable_name
        if glob(name) is not None or glob(name[:_MAX_COMM]) is not None:
            return True
        own = origin.command
        return own is not None and glob(own.rsplit("/", 1)[-1]) is not None

    return test


def _exe_test(values: Sequence[str], flag: str) -> _ProcessTest:
    glob = _glob(values, flag, "/usr/bin/python3*")

    def test(origin: Origin) -> bool:
        path = origin.executable_path
        return path is not None and glob(path) is not None

    return test


def _user_test(values: Sequence[str], flag: str) -> _ProcessTest:
    users = frozenset(_present(value, flag, "www-data") for value in values)
    return lambda origin: origin.user in users


def _container_test(values: Sequence[str], flag: str) -> _ProcessTest:
    prefixes = tuple(value.strip().lower() for value in values)
    for value, prefix in zip(values, prefixes, strict=True):
        if _CONTAINER.match(prefix) is None:
            raise _bad(flag, value, "is not the beginning of a container id", "4f2a6c1d9b8e")
    return lambda origin: origin.container is not None and origin.container.id.startswith(prefixes)


def _pod_test(values: Sequence[str], flag: str) -> _ProcessTest:
    glob = _glob(values, flag, "checkout-*")
    prefixes = tuple(value.strip().lower() for value in values)

    def test(origin: Origin) -> bool:
        container = origin.container
        uid = None if container is None else container.pod_uid
        if uid is not None and uid.startswith(prefixes):
            return True
        for key, value in origin.service_attributes:
            if key == "k8s.pod.name":
                return glob(value) is not None
        return False

    return test


def _host_test(values: Sequence[str], flag: str) -> _ExchangeTest:
    glob = _glob([value.lower() for value in values], flag, "*.example.com")

    def test(exchange: Exchange) -> bool:
        host = None if exchange.request is None else host_of(exchange.request)
        return host is not None and glob(host) is not None

    return test


def _method_test(values: Sequence[str], flag: str) -> _ExchangeTest:
    methods: set[bytes] = set()
    for value in values:
        if _METHOD.match(value) is None:
            raise _bad(flag, value, "is no HTTP method", "POST")
        methods.add(value.upper().encode())

    def test(exchange: Exchange) -> bool:
        return exchange.request is not None and exchange.request.method.upper() in methods

    return test


def _path_test(values: Sequence[str], flag: str) -> _ExchangeTest:
    glob = _glob(values, flag, "/api/*")

    def test(exchange: Exchange) -> bool:
        path = None if exchange.request is None else path_of(exchange.request)
        return path is not None and glob(path) is not None

    return test


def _status_test(values: Sequence[str], flag: str) -> _ExchangeTest:
    wanted: set[int] = set()
    for value in values:
        found = _STATUS.match(value.strip())
        if found is None:
            raise _bad(flag, value, "is no status", "404, 4xx or 400-499")
        if found[1]:
            wanted.update(range(int(found[1]) * 100, int(found[1]) * 100 + 100))
            continue
        first, last = int(found[2]), int(found[3] or found[2])
        if last < first:
            raise _bad(flag, value, "ends before it begins", "400-499")
        wanted.update(range(first, last + 1))

    def test(exchange: Exchange) -> bool:
        return exchange.response is not None and exchange.response.status in wanted

    return test


def _glob(values: Sequence[str], flag: str, example: str) -> Callable[[str], object]:
    """One compiled expression for all globs of a flag."""
    patterns = [translate(_present(value, flag, example)) for value in values]
    return re.compile("|".join(patterns)).match


def _present(value: str, flag: str, example: str) -> str:
    if not value.strip():
        raise _bad(flag, value, "is empty", example)
    return value


def _check_names(values: Mapping[str, Sequence[str]]) -> None:
    for name in values:
        if name not in NAMES:
            raise ConfigError(
                f"There is no filter called {name!r}.", remedy="Filters are: " + ", ".join(NAMES)
            )


def _bad(flag: str, value: str, what: str, example: str) -> ConfigError:
    return ConfigError(f"{flag}: {value!r} {what}.", remedy=f"For example: {flag} {example}")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
