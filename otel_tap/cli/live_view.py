"""The full-screen view of `live`: a scrolling list, a filter, a page of details.

At the end of the list stand exchanges that run: streams, long polls, big downloads.

Pure: `Screen` changes only by exchanges and keys, `render` only reads it. Keyboard, terminal and
clock are for `cli.live`.

Keys: up/down (k/j), page up/down, Home, End (newest again); Enter opens the selected exchange and
Escape closes it; `/` types a filter (every word must stand in the line), Enter keeps it, Escape
clears it; q quits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from otel_tap.cli.exchange_view import ExchangeView, Identity
from otel_tap.cli.terminal_text import safe

KEPT = 2000  # exchanges that can be scrolled back to

_SEQUENCES = {
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"\x1b[5~": "page_up",
    b"\x1b[6~": "page_down",
    b"\x1b[H": "home",
    b"\x1bOH": "home",
    b"\x1b[1~": "home",
    b"\x1b[F": "end",
    b"\x1bOF": "end",
    b"\x1b[4~": "end",
}
_CONTROLS = {"\r": "enter", "\n": "enter", "\x1b": "escape", "\x7f": "backspace", "\b": "backspace"}
_LETTERS = {"k": "up", "j": "down", "g": "home", "G": "end"}


def keys_of(typed: bytes) -> list[str]:
    """Names of the keys, or the characters, in what a terminal sent in one read."""
    keys: list[str] = []
    at = 0
    while at < len(typed):
        known = next((s for s in _SEQUENCES if typed.startswith(s, at)), None)
        if known is not None:
            keys.append(_SEQUENCES[known])
            at += len(known)
        elif typed.startswith(b"\x1b[", at):
            at += 2  # a key of no meaning here: skip to the letter that ends its sequence
            while at < len(typed) and not 0x40 <= typed[at] <= 0x7E:
                at += 1
            at += 1
        else:
            width = _utf8_width(typed[at])
            text = typed[at : at + width].decode("utf-8", "ignore")
            at += width
            if text:
                keys.append(_CONTROLS.get(text, text))
    return keys


def _utf8_width(lead: int) -> int:
    if lead < 0xC0:
        return 1
    if lead < 0xE0:
        return 2
    return 3 if lead < 0xF0 else 4


@dataclass(slots=True)
class Screen:
    """What the reader sees and where in it they are."""

    rows: deque[ExchangeView] = field(default_factory=lambda: deque(maxlen=KEPT))
    running: dict[Identity, ExchangeView] = field(default_factory=dict)  # not over yet
    wanted: str = ""  # the filter
    typing: bool = False  # a filter is being typed
    selected: ExchangeView | None = None  # None: the newest, whichever that is
    opened: ExchangeView | None = None
    scrolled: int = 0  # lines of the opened exchange above the screen
    page: int = 10  # rows that fit, set when drawn
    quit: bool = False

    def add(self, row: ExchangeView) -> None:
        """An exchange is over; whoever looked at it while it ran goes on looking at it."""
        self.rows.append(row)
        ran = self.running.pop(row.identity, None)
        if ran is not None:
            if self.selected is ran:
                self.selected = row
            if self.opened is ran:
                self.opened = row

    def look(self, running: Iterable[ExchangeView]) -> None:
        """These run now, and no others."""
        before, self.running = self.running, {}
        for row in running:
            known = before.get(row.identity)
            if known is not None:
                known.look(row.exchange)
            self.running[row.identity] = known or row

    def visible(self) -> list[ExchangeView]:
        """The rows that the filter lets through: those that are over, then some that run.

        Each oldest first. Of many that run, the ones that began last take a third of a page.
        """
        wanted = self.wanted.lower()
        rows = [row for row in self.rows if row.matches(wanted)] if wanted else list(self.rows)
        running = [row for row in self.running.values() if row.matches(wanted)]
        running.sort(key=lambda row: row.exchange.start_ktime_ns)
        return rows + running[-max(1, self.page // 3) :]

    def press(self, key: str) -> None:
        """React to one key as `keys_of` names it."""
        if self.typing:
            self._type(key)
        elif key == "q":
            self.quit = True
        elif self.opened is not None:
            self._scroll(_LETTERS.get(key, key))
        elif key == "/":
            self.typing = True
        elif key == "escape":
            self.wanted = ""
        else:
            self._move(_LETTERS.get(key, key))

    def _type(self, key: str) -> None:
        if key == "enter":
            self.typing = False
        elif key == "escape":
            self.typing = False
            self.wanted = ""
        elif key == "backspace":
            self.wanted = self.wanted[:-1]
        elif len(key) == 1 and key.isprintable():
            self.wanted += key
        self.selected = None

    def _scroll(self, key: str) -> None:
        if key in {"escape", "enter", "backspace"}:
            self.opened = None
            return
        steps = {"up": -1, "down": 1, "page_up": -self.page, "page_down": self.page}
        self.scrolled = 0 if key == "home" else max(0, self.scrolled + steps.get(key, 0))

    def _move(self, key: str) -> None:
        rows = self.visible()
        if not rows:
            return
        last = len(rows) - 1
        at = self.position(rows)
        if key == "enter":
            self.selected = self.opened = rows[at]
            self.scrolled = 0
            return
        steps = {"up": -1, "down": 1, "page_up": -self.page, "page_down": self.page}
        steps |= {"home": -len(rows), "end": len(rows)}
        if key in steps:
            to = min(last, max(0, at + steps[key]))
            self.selected = None if to == last else rows[to]

    def position(self, rows: list[ExchangeView]) -> int:
        """Index of the selected row: the newest where none is, the oldest where it is gone."""
        if self.selected is None:
            return len(rows) - 1
        for at, row in enumerate(rows):
            if row is self.selected:
                return at
        return 0


_STATUS_STYLES = {"2": "green", "3": "cyan", "4": "yellow", "5": "bold red"}
_BAR = Style(reverse=True)


@dataclass(frozen=True, slots=True)
class ScreenDrawing:
    """A screen with its counters, as rich draws it: exactly the height it is given."""

    screen: Screen
    counters: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.height or options.size.height
        room = max(1, height - 2)
        self.screen.page = room
        if self.screen.opened is not None:
            lines = self._detail_lines(self.screen.opened, room)
        else:
            lines = self._list_lines(room, options.max_width)
        lines += [Text("")] * (room - len(lines))
        head = "TIME         PROCESS              METHOD  STATUS     TIME       SIZE  URL"
        drawn = [Text(head, style="bold"), *lines, self._foot()]
        for number, line in enumerate(drawn):
            line.truncate(options.max_width, overflow="ellipsis", pad=number == len(drawn) - 1)
            yield from line.render(console)
            if number < len(drawn) - 1:
                yield Segment.line()

    def _list_lines(self, room: int, width: int) -> list[Text]:
        rows = self.screen.visible()
        at = self.screen.position(rows)
        first = max(0, min(at - room // 2, len(rows) - room))
        if self.screen.selected is None:
            first = max(0, len(rows) - room)
        shown = rows[first : first + room]
        lines = [_row(row) for row in shown]
        if lines:
            lines[at - first].stylize(_BAR)
            lines[at - first].truncate(width, pad=True)
        return lines

    def _detail_lines(self, opened: ExchangeView, room: int) -> list[Text]:
        details = opened.details()
        first = self.screen.scrolled = min(self.screen.scrolled, max(0, len(details) - room))
        return [
            Text.assemble((f"{name:>24}  ", "dim"), (value, "" if name else "bold"))
            for name, value in details[first : first + room]
        ]

    def _foot(self) -> Text:
        screen = self.screen
        if screen.typing:
            return Text(f"/{safe(screen.wanted)}_  Enter keeps, Escape clears", style=_BAR)
        if screen.opened is not None:
            return Text(f"Escape closes, q quits   {self.counters}", style=_BAR)
        kept = f"   {len(screen.running)} running" if screen.running else ""
        kept += f"   filter: {safe(screen.wanted)}" if screen.wanted else ""
        return Text(f"/ filter, Enter details, q quit   {self.counters}{kept}", style=_BAR)


def _row(row: ExchangeView) -> Text:
    text = Text(no_wrap=True)
    text.append(f"{row.time} {row.process[:20]:<20} ")
    text.append(f"{row.arrow} {row.method[:7]:<7} ")
    text.append(f"{row.status:>3} ", style=_STATUS_STYLES.get(row.status[:1], "dim"))
    text.append(f"{row.duration:>9} {row.size:>10}  ", style="italic" if row.running else "")
    text.append(row.url)
    if row.notes:
        text.append(f"  {row.notes}", style="dim")
    return text
