"""The screen of `live`: keys in, lines out."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from otel_tap.cli.exchange_view import ExchangeView
from otel_tap.cli.live_view import KEPT, Screen, ScreenDrawing, keys_of
from otel_tap.exchange import Position
from otel_tap.messages import Body
from tests.unit.test_cli_exchange_view import EXCHANGE, ORIGIN, REQUEST, RESPONSE, hostile


def row(number):
    request = replace(REQUEST, target=b"/n%d" % number)
    return ExchangeView(replace(EXCHANGE, request=request), ORIGIN, 0)


@pytest.fixture
def screen():
    made = Screen()
    made.rows.extend(row(number) for number in range(30))
    return made


def draw(screen, width=120, height=12, counters="3 exchanges"):
    console = Console(
        file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None
    )
    options = console.options.update(height=height)
    lines = console.render_lines(ScreenDrawing(screen, counters), options, pad=False)
    return ["".join(segment.text for segment in line) for line in lines]


def press(screen, typed):
    for key in keys_of(typed):
        screen.press(key)


def test_the_newest_exchanges_are_shown_with_the_counters(screen):
    lines = draw(screen)
    assert len(lines) == 12
    assert "/n20" in lines[1]
    assert "/n29" in lines[10]
    assert "3 exchanges" in lines[11]


def test_an_empty_screen_can_be_drawn_and_keys_do_no_harm():
    screen = Screen()
    press(screen, b"\x1b[A\x1b[B\r\x1b[6~jk")
    assert len(draw(screen)) == 12


def test_the_arrows_move_and_enter_opens_what_is_selected(screen):
    press(screen, b"\x1b[A\x1b[A\r")
    lines = draw(screen, height=40)
    assert any("GET https://example.org/n27 HTTP/1.1" in line for line in lines)
    press(screen, b"\x1b")
    assert "/n29" in draw(screen)[10]


def test_a_selected_row_stays_selected_while_others_arrive(screen):
    press(screen, b"kkk")
    selected = screen.selected
    screen.rows.append(row(30))
    assert screen.selected is selected
    press(screen, b"G")
    assert screen.selected is None  # follows the newest again
    press(screen, b"\x1b[H")
    assert "/n0" in draw(screen)[1]


def test_a_selected_row_that_scrolled_away_gives_the_oldest(screen):
    press(screen, b"g")
    screen.rows.extend(row(number) for number in range(KEPT))
    assert len(screen.rows) == KEPT
    assert "/n0" in draw(screen)[1]


def test_a_filter_is_typed_kept_and_cleared(screen):
    press(screen, b"/n25x\x7f")
    assert screen.typing
    assert "/n25_" in draw(screen)[11]
    press(screen, b"\r")
    lines = draw(screen)
    assert "/n25" in lines[1]
    assert not lines[2].strip()
    assert "filter: n25" in lines[11]
    press(screen, b"\x1b")
    assert len(screen.visible()) == 30


def test_q_quits_but_not_while_a_filter_is_typed(screen):
    press(screen, b"/q\r")
    assert not screen.quit
    press(screen, b"q")
    assert screen.quit


def test_details_scroll_no_further_than_their_end(screen):
    press(screen, b"\r" + b"\x1b[B" * 200)
    lines = draw(screen, height=8)
    assert "512 B" in lines[5] + lines[6]
    press(screen, b"\x1b[A")
    assert draw(screen, height=8) != lines


@pytest.mark.parametrize("size", [(20, 3), (1, 1), (80, 24), (300, 5)])
def test_a_drawing_never_exceeds_the_terminal(screen, size):
    width, height = size
    for typed in (b"", b"/abc", b"\x1b\r"):
        press(screen, typed)
        lines = draw(screen, width, height)
        assert len(lines) <= max(3, height)
        assert all(len(line) <= width for line in lines)


def test_hostile_text_is_neutral_in_the_list_and_in_the_details():
    screen = Screen()
    screen.rows.append(hostile())
    listed = draw(screen, width=400, height=40)
    press(screen, b"\r")
    for line in listed + draw(screen, width=400, height=60):
        assert line.isprintable(), line


def test_sequences_of_keys_are_told_apart():
    assert keys_of(b"\x1b[A\x1bOB\x1b[5~x\x1b") == ["up", "down", "page_up", "x", "escape"]
    assert keys_of(b"\x1b[15~q") == ["q"]  # a key of no meaning here leaves nothing behind
    assert keys_of("é/".encode()) == ["é", "/"]
    assert keys_of(b"\r\n\x7f\x08") == ["enter", "enter", "backspace", "backspace"]


@given(st.lists(st.binary(max_size=20), max_size=20))
def test_any_typing_leaves_a_screen_that_can_be_drawn(typings):
    screen = Screen()
    screen.rows.extend(row(number) for number in range(3))
    for typed in typings:
        press(screen, typed)
        assert len(draw(screen, 60, 6)) == 6


def running(number, size=1_300_000, seconds=12):
    response = replace(RESPONSE, body=Body(b"", size, truncated=True), complete=False)
    exchange = replace(
        EXCHANGE,
        request=replace(REQUEST, target=b"/r%d" % number),
        response=response,
        position=Position("tcp", number),
        end_ktime_ns=EXCHANGE.start_ktime_ns + seconds * 1_000_000_000,
    )
    return ExchangeView(exchange, ORIGIN, 0, running=True)


def over(ran):
    return ExchangeView(ran.exchange, ORIGIN, 0)


def test_what_runs_stands_below_what_is_over_and_grows(screen):
    screen.look([running(1)])
    lines = draw(screen)
    assert "/n29" in lines[9]
    assert "/r1" in lines[10]
    assert "12.00 s+" in lines[10]
    assert "1.2 MiB+" in lines[10]
    assert "running" in lines[10]
    assert "1 running" in lines[11]
    screen.look([running(1, size=5 << 20, seconds=13)])
    assert "13.00 s+" in draw(screen)[10]
    assert "5.0 MiB+" in draw(screen)[10]
    screen.look([])
    assert "/n29" in draw(screen)[10]
    assert "running" not in "".join(draw(screen))


def test_what_was_opened_while_it_ran_stays_open_when_it_is_over(screen):
    screen.look([running(1)])
    press(screen, b"\r")
    assert any("12.00 s+, 1.2 MiB+ so far" in line for line in draw(screen, height=40))
    screen.look([running(1, seconds=99)])
    assert any("99.00 s+" in line for line in draw(screen, height=40))
    screen.add(over(running(1, seconds=100)))
    lines = draw(screen, height=40)
    assert any("100.00 s" in line for line in lines)
    assert not any("so far" in line for line in lines)
    press(screen, b"\x1b")
    assert not screen.running
    assert "/r1" in draw(screen)[10]


def test_a_selected_running_row_is_selected_when_it_is_over(screen):
    screen.look([running(1), running(2)])
    press(screen, b"k")
    assert b"/r1" in screen.selected.exchange.request.target
    screen.add(over(running(1)))
    assert screen.selected is screen.rows[-1]


def test_many_that_run_leave_room_for_what_is_over(screen):
    screen.look(running(number) for number in range(100))
    lines = draw(screen, height=14)
    assert [bool("/r" in line) for line in lines[1:13]] == [False] * 8 + [True] * 4
    assert "/r99" in lines[12]
    assert "100 running" in lines[13]
    press(screen, b"/r5\r")
    shown = [line for line in draw(screen, height=14) if "running" in line and "/r" in line]
    assert len(shown) == 4
    assert all("/r5" in line for line in shown)
