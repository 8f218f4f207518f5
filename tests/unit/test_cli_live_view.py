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
from tests.unit.test_cli_exchange_view import EXCHANGE, ORIGIN, REQUEST, hostile


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
