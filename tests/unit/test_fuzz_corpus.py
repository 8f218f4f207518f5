"""What fuzzing found worth keeping, run as a test: seeds, and the corpus of every target.

tests/fuzz says how more is found.
"""

from __future__ import annotations

import pytest

from otel_tap.compiled import is_compiled
from tests.fuzz import conversation
from tests.fuzz.kept import CORPUS, kept
from tests.fuzz.targets import NAMES, load


@pytest.mark.parametrize("name", NAMES)
def test_every_kept_input_of_a_target_holds_its_invariant(name):
    if name == "http2_frames" and is_compiled():
        pytest.skip("a compiled reader takes no listener of a test; target http2 reads the same")
    target = load(name)
    assert target.__doc__
    inputs = kept(name)
    assert inputs
    for data in (*inputs, *target.SEEDS, *target.TOKENS, b"", b"\0"):
        target.check(data)


@pytest.mark.parametrize("name", ["http1", "http2"])
def test_the_kept_conversations_get_far(name):
    """A corpus whose conversations are not understood would test nothing."""
    wires = [conversation.play(data) for data in kept(name)]
    exchanges = [one for wire in wires for one in wire.exchanges]
    assert len(exchanges) > len(wires) / 2
    assert len({one.error for one in exchanges}) >= 6
    assert any(one.request and one.response and one.error is None for one in exchanges)


def test_every_corpus_has_its_target_and_all_of_them_stay_small():
    assert {path.name for path in CORPUS.iterdir()} == {f"{name}.txt" for name in NAMES}
    assert sum(path.stat().st_size for path in CORPUS.iterdir()) < 3_000_000
