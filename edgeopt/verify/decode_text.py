"""Text out of outputs: connectionist temporal classification, symbol numbers, answers as spans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.errors import InputError
from edgeopt.facts import ModelFacts
from edgeopt.verify.decode import Decoder, Outputs, Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["ctc", "ids", "span"]


def ctc(settings: Settings, facts: ModelFacts) -> Decoder:
    """Greedy connectionist temporal classification: the best symbol of each step, repeats merged,
    blanks left out (Graves et al., 2006). `blank` is last, first or a number."""
    at = settings.output(facts) or 0
    symbols = _alphabet(settings)
    blank = settings.text("blank", "last")

    def run(outputs: Outputs) -> str:
        import numpy as np

        steps = outputs.arrays[at]
        steps = steps.reshape([d for d in steps.shape[:-1] if d != 1] + [steps.shape[-1]])
        if steps.ndim != 2:
            raise InputError(f"CTC reads (steps, symbols); the output has shape {steps.shape}.")
        count = steps.shape[1]
        empty = {"last": count - 1, "first": 0}.get(blank, int(blank) if blank.isdigit() else -1)
        if not 0 <= empty < count or len(symbols) not in (count, count - 1):
            raise InputError(
                f"The output has {count} symbols, the alphabet {len(symbols)}, the blank is "
                f"{blank}.",
                "The alphabet has a line for each symbol in the output's order, with or without "
                "the blank; blank=last, first or its number.",
            )
        best = steps.argmax(axis=1)
        kept = best[np.concatenate([[True], best[1:] != best[:-1]])]
        shift = len(symbols) < count
        return "".join(symbols[i - (shift and i > empty)] for i in kept if i != empty)

    return Decoder(run=run, compared=(at,))


def ids(settings: Settings, facts: ModelFacts) -> Decoder:
    """Numbers of symbols (or scores of them at each step) joined; `end` stops, `skip` omits."""
    at = settings.output(facts) or 0
    symbols, joint = _alphabet(settings), settings.text("join", "")
    joint = " " if joint == "space" else joint
    end, skip = settings.whole("end", -1), settings.text("skip")
    left_out = {int(n) for n in skip.split("/") if n.strip().isdigit()}

    def run(outputs: Outputs) -> str:
        row = outputs.arrays[at]
        row = row.argmax(axis=-1) if row.ndim > 1 and row.shape[-1] == len(symbols) else row
        words = []
        for number in row.ravel().astype(int):
            if number == end:
                break
            if number in left_out:
                continue
            if not 0 <= number < len(symbols):
                raise InputError(f"Symbol {number} is not one of the {len(symbols)}.")
            words.append(symbols[number])
        return joint.join(words)

    return Decoder(run=run, compared=(at,))


def _alphabet(settings: Settings) -> list[str]:
    """The symbols of a file, a line each ("<space>" for a space), or the characters of one line."""
    given = settings.text("alphabet")
    if not given:
        raise InputError(
            f"--decode {settings.name} needs the symbols of the output.",
            f"Give a file with a line each: --decode {settings.name},alphabet=FILE.",
        )
    try:
        text = Path(given).expanduser().read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The alphabet {given} cannot be read: {error}.") from error
    lines = text.split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    found = list(lines[0]) if len(lines) == 1 else [line.rstrip("\r") for line in lines]
    if not found:
        raise InputError(f"The alphabet {given} is empty.")
    return [" " if symbol in ("<space>", "") else symbol for symbol in found]


def span(settings: Settings, facts: ModelFacts) -> Decoder:
    """The best answer between two tokens of the context, by start plus end score, at most
    `longest` tokens (30, as in BERT's SQuAD script). `null=yes`: none where token 0 scores more."""
    start, end = settings.output(facts, "start"), settings.output(facts, "end")
    longest = settings.whole("longest", 30)
    may_be_none = settings.text("null", "no", ("yes", "no")) == "yes"
    names = [t.name.lower() for t in facts.outputs]
    if start is None and end is None and len(names) > 1:
        found = [[i for i, n in enumerate(names) if word in n] for word in ("start", "end")]
        if any(len(f) != 1 for f in found):
            raise InputError(
                f"Which outputs are the start and the end is not told by {', '.join(names)}.",
                "Name them: --decode span,start=NAME,end=NAME (or their numbers).",
            )
        start, end = found[0][0], found[1][0]

    def run(outputs: Outputs) -> str:
        if start is None or end is None:
            both = outputs.arrays[0]
            if both.ndim != 2 or both.shape[1] != 2:
                raise InputError("The output has no start and end scores: (tokens, 2).")
            return _best_span(both[:, 0], both[:, 1], outputs.target, longest, may_be_none)
        first, last = outputs.arrays[start].ravel(), outputs.arrays[end].ravel()
        return _best_span(first, last, outputs.target, longest, may_be_none)

    compared = (0,) if start is None or end is None else (start, end)
    return Decoder(run=run, compared=compared)


def _best_span(first: Array, last: Array, target: Any, longest: int, may_be_none: bool) -> str:
    import numpy as np

    if target.context is None or len(target.offsets) > len(first) or not target.offsets:
        raise InputError(
            f"Answers need the context and the offsets of its tokens (at most {len(first)}).",
            'Give them in the labels: {"answers": [...], "context": "...", "offsets": [...]}.',
        )
    inside = [i for i, pair in enumerate(target.offsets) if pair is not None and pair[1] > pair[0]]
    best: tuple[float, int, int] | None = None
    allowed = np.asarray(inside, dtype=int)
    for begin in inside:
        ends = allowed[(allowed >= begin) & (allowed < begin + longest)]
        stop = int(ends[np.argmax(last[ends])])
        score = float(first[begin] + last[stop])
        if best is None or score > best[0]:
            best = (score, begin, stop)
    if best is None or (may_be_none and float(first[0] + last[0]) > best[0]):
        return ""
    begin, stop = target.offsets[best[1]][0], target.offsets[best[2]][1]
    return str(target.context[begin:stop])
