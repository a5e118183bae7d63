"""Text: word and character error rates, and F1 and exact match of short answers."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence

from edgeopt.dataset import Answer
from edgeopt.errors import InputError
from edgeopt.verify.metrics.metric import Score, mean_error, mean_of

__all__ = ["cer", "exact_match", "f1", "normalized", "observe_answer", "observe_text", "wer"]

_PUNCTUATION = frozenset(string.punctuation)


def observe_text(hypothesis: str, reference: str) -> list[str]:
    """[what the model said, what was said]."""
    return [hypothesis, reference]


def wer(seen: Sequence[Sequence[str]]) -> Score:
    """Word error rate: substitutions, deletions and insertions over the words said (jiwer)."""
    return _rate(seen, words=True)


def cer(seen: Sequence[Sequence[str]]) -> Score:
    """Character error rate, spaces counted as characters, as jiwer does."""
    return _rate(seen, words=False)


def _rate(seen: Sequence[Sequence[str]], *, words: bool) -> Score:
    errors, lengths = _counted(seen, words=words)
    total = sum(lengths)
    if total == 0:
        raise InputError("All the transcripts are empty: there is nothing to count errors over.")
    rate = sum(errors) / total
    folded, _ = _counted([(h.casefold(), r.casefold()) for h, r in seen], words=words)
    notes: tuple[str, ...] = ()
    if sum(errors) - sum(folded) > 0.05 * total:
        notes = (
            f"Upper and lower case alone make {(sum(errors) - sum(folded)) / total:.0%} of the "
            "errors: write the transcripts as the alphabet does.",
        )
    return Score(value=rate, standard_error=_ratio_error(errors, lengths, rate), notes=notes)


def _counted(seen: Sequence[Sequence[str]], *, words: bool) -> tuple[list[int], list[int]]:
    """Errors and reference lengths, a sample each."""
    import jiwer

    count = jiwer.process_words if words else jiwer.process_characters
    errors, lengths = [], []
    for hypothesis, reference in seen:
        found = count(reference, hypothesis)
        errors.append(found.substitutions + found.deletions + found.insertions)
        lengths.append(found.hits + found.substitutions + found.deletions)
    return errors, lengths


def _ratio_error(errors: list[int], lengths: list[int], rate: float) -> float | None:
    """Standard error of a ratio of sums over independent samples (Cochran, Sampling Techniques,
    1977, section 6.3): sqrt(sum((e - r w)^2) / (n (n - 1))) / mean(w)."""
    count = len(errors)
    if count < 2:
        return None
    squares = math.fsum((e - rate * w) ** 2 for e, w in zip(errors, lengths, strict=True))
    return math.sqrt(squares / (count * (count - 1))) / (sum(lengths) / count)


def normalized(text: str) -> str:
    """As SQuAD's evaluation (Rajpurkar et al., 2016) compares answers: lower case, without ASCII
    punctuation, without the articles a, an and the, and with single spaces."""
    lower = "".join(c for c in text.lower() if c not in _PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", lower).split())


def observe_answer(given: str, answer: Answer) -> list[float]:
    """[F1, exact match], each the best over the accepted answers.

    No accepted answer is SQuAD 2's question without one: only an empty one is right.
    """
    wanted = answer.texts or ("",)
    own = normalized(given)
    exact = max(float(own == normalized(text)) for text in wanted)
    return [max(_overlap(own.split(), normalized(text).split()) for text in wanted), exact]


def _overlap(given: list[str], wanted: list[str]) -> float:
    """Harmonic mean of precision and recall over words; with an empty side, equal or not."""
    if not given or not wanted:
        return float(given == wanted)
    shared = sum((Counter(given) & Counter(wanted)).values())
    return 2 * shared / (len(given) + len(wanted))


def f1(seen: Sequence[Sequence[float]]) -> Score:
    """Mean F1 of words, a fraction (SQuAD prints percent)."""
    values = [row[0] for row in seen]
    exact = mean_of([row[1] for row in seen])
    return Score(
        value=mean_of(values), standard_error=mean_error(values), more={"exact_match": exact}
    )


def exact_match(seen: Sequence[Sequence[float]]) -> Score:
    """The share of answers that equal an accepted one after normalization."""
    values = [row[1] for row in seen]
    return Score(
        value=mean_of(values),
        standard_error=mean_error(values),
        more={"f1": mean_of([row[0] for row in seen])},
    )
