"""Coverage-guided fuzzing of everything that reads what a peer or a process wrote.

`make fuzz` runs every target for SECONDS (60), one after another; `make fuzz ONLY=http1` one of
them. What a target's `check` raises, a hang and memory beyond a bound are findings; the input is
kept in build/fuzz/NAME. What was worth keeping stands in corpus/NAME.txt and is run by
tests/unit/test_fuzz_corpus.py as a test like any other; `make fuzz-corpus` takes in what fuzzing
found since.

A target is a module in targets/: its docstring states the invariant, `check(data)` raises where
it does not hold, and `SEEDS` and `TOKENS` (both may be empty) help it to begin:

    def check(data: bytes) -> None:
        reader = Reader()
        reader.take(data)
        assert reader.size <= LIMIT

    SEEDS = (b"data: x\\n\\n",)
    TOKENS = (b"data:", b"retry:")
"""
