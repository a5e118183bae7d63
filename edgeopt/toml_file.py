"""TOML files that answer for themselves: every complaint names the file, the line and the key.

`tomllib` gives values without positions, so a second, lenient pass over the text (which is known to
be valid by then) records the line of each key.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from edgeopt.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Section", "did_you_mean", "read_toml"]

_MAX_BYTES = 1 << 20  # the largest shipped profile is 60 KB; a model given by mistake is not read
_AT_LINE = re.compile(r"\(at line (\d+), column \d+\)")
_KEY = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)\s*""")

T = TypeVar("T")
Keys = tuple[str | int, ...]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` Did you mean X?`, or nothing where no known word is near."""
    near = get_close_matches(word, list(known), 1)
    return f" Did you mean {near[0]}?" if near else ""


def read_toml(path: Path) -> Section:
    """The file's root section. Raises InputError when it cannot be read or is not TOML."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path} is too large for a TOML file.", "Give the .toml file itself.")
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise InputError(f"{path} cannot be read: {why}.", "Check the path.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file.", "A TOML file is UTF-8 text.") from error
    text = text.replace("\r\n", "\n")
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _syntax_error(path, text, error) from error
    return Section(path, data, _Lines(text).found, ())


def _syntax_error(path: Path, text: str, error: Exception) -> InputError:
    found = _AT_LINE.search(str(error))
    line = int(found.group(1)) if found else text.count("\n") + 1
    what = _AT_LINE.sub("", str(error)).strip().rstrip(".") or "nested too deeply"
    return InputError(f"{path}:{line}: not valid TOML: {what}.", "Correct that line.")


class Section:
    """One table of the file; `finish` refuses the keys that no reader asked for."""

    def __init__(self, path: Path, data: Mapping[str, Any], lines: Mapping[Keys, int], at: Keys):
        self.path = path
        self._data = data
        self._lines = lines
        self._at = at
        self._asked: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def line(self, key: str | None = None) -> int:
        """The line of a key, or of the nearest thing above it that has one."""
        at = self._at if key is None else (*self._at, key)
        while at and at not in self._lines:
            at = at[:-1]
        return self._lines.get(at, 1)

    def error(self, key: str | None, what: str, hint: str = "") -> InputError:
        """`FILE:LINE: KEY: what`; the caller raises it."""
        name = _dotted((*self._at, key) if key else self._at)
        said = not name or what.startswith((f"{name} ", f"{key} "))
        return InputError(
            f"{self.path}:{self.line(key)}: {'' if said else f'{name}: '}{what}", hint
        )

    def names(self) -> list[str]:
        """The keys as written; for tables whose keys are data."""
        self._asked.update(self._data)
        return list(self._data)

    def value(self, key: str) -> Any:
        self._asked.add(key)
        return self._data.get(key)

    def text(self, key: str, default: str | None = None) -> str:
        return self._one(key, str, "a string", default)

    def flag(self, key: str, default: bool | None = None) -> bool:
        return self._one(key, bool, "true or false", default)

    def number(self, key: str, default: float | None = None) -> float:
        if isinstance(self.value(key), int) and not isinstance(self.value(key), bool):
            return float(self.value(key))
        return self._one(key, float, "a number", default)

    def integer(self, key: str, default: int | None = None, *, least: int = 0) -> int:
        found = self._one(key, int, "a whole number", default)
        if found < least:
            raise self.error(key, f"{found} is too small; the least is {least}.")
        return found

    def optional(self, key: str, *, least: int = 0) -> int | None:
        """A whole number, or None where the key is left out."""
        return self.integer(key, least=least) if key in self else self.value(key)

    def texts(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        found = self._one(
            key, list, "a list of strings", None if default is None else list(default)
        )
        if not all(isinstance(item, str) for item in found):
            raise self.error(key, "must be a list of strings.")
        if len(set(found)) != len(found):
            raise self.error(key, "names the same thing twice.")
        return tuple(found)

    def choice(self, key: str, known: Iterable[str], default: str | None = None) -> str:
        found = self.text(key, default)
        names = sorted(known)
        if found not in names:
            raise self.unknown(key, found, names)
        return found

    def unknown(self, key: str | None, word: str, known: Iterable[str]) -> InputError:
        names = sorted(known)
        return self.error(
            key, f"{word!r} is not known.{did_you_mean(word, names)}", f"Known: {', '.join(names)}."
        )

    def section(self, key: str, *, required: bool = True) -> Section:
        """A table below this one; an empty one where it is left out and not required."""
        found = self._one(key, dict, "a table", None if required else {})
        return Section(self.path, found, self._lines, (*self._at, key))

    def sections(self, key: str) -> list[Section]:
        """An array of tables; empty where it is left out."""
        found = self._one(key, list, "a list of tables", [])
        if not all(isinstance(item, dict) for item in found):
            raise self.error(key, "must be a list of tables.")
        return [
            Section(self.path, item, self._lines, (*self._at, key, i))
            for i, item in enumerate(found)
        ]

    def finish(self) -> None:
        """Refuse keys that were never read, with the nearest known one."""
        for key in self._data:
            if key not in self._asked:
                raise self.error(
                    key,
                    f"unknown key.{did_you_mean(key, self._asked)}",
                    f"Known here: {', '.join(sorted(self._asked))}.",
                )

    def _one(self, key: str, kind: type[T], name: str, default: T | None) -> T:
        found = self.value(key)
        if found is None:
            if default is not None:
                return default
            unread = [name for name in self._data if name not in self._asked]
            if near := get_close_matches(key, unread, 1):
                raise self.error(near[0], f"unknown key. Did you mean {key}?", f"Write {key}.")
            raise self.error(None, f"the key {key!r} is missing.", f"Add {key} = ({name}).")
        if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
            raise self.error(key, f"must be {name}, not {found!r}.")
        return found


def _dotted(at: Keys) -> str:
    text = ""
    for part in at:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


class _Lines:
    """Where each key of a valid TOML text stands; array items are keyed by their index."""

    def __init__(self, text: str) -> None:
        self.found: dict[Keys, int] = {}
        self._text = text
        self._at = 0
        self._counts: dict[Keys, int] = {}
        self._document()

    def _document(self) -> None:
        here: Keys = ()
        while self._skip():
            if self._text.startswith("[", self._at):
                here = self._header()
            else:
                self._pair(here)

    def _header(self) -> Keys:
        line, several = self._line(), self._text.startswith("[[", self._at)
        self._at += 2 if several else 1
        names = self._dotted_key()
        self._at += 2 if several else 1
        here: Keys = ()
        for name in names[:-1]:
            here = self._last((*here, name))
        last = (*here, names[-1])
        if several:
            self._counts[last] = self._counts.get(last, -1) + 1
        here = self._last(last)
        self.found.setdefault(last, line)
        self.found.setdefault(here, line)
        return here

    def _last(self, at: Keys) -> Keys:
        """An array of tables is continued at its newest item."""
        return (*at, self._counts[at]) if at in self._counts else at

    def _pair(self, here: Keys) -> None:
        line, at = self._line(), here
        for name in self._dotted_key():
            at = (*at, name)
            self.found.setdefault(at, line)
        self._at += 1  # the equals sign
        self._value(at)

    def _dotted_key(self) -> list[str]:
        names: list[str] = []
        while found := _KEY.match(self._text, self._at):
            names.append(found.group(1).strip("\"'"))
            self._at = found.end()
            if not self._text.startswith(".", self._at):
                break
            self._at += 1
        return names

    def _value(self, at: Keys) -> None:
        self._skip()
        opening = self._text[self._at : self._at + 1]
        if opening == "[":
            self._items(at, "]")
        elif opening == "{":
            self._items(at, "}")
        elif opening in "\"'":
            self._string()
        else:
            while self._at < len(self._text) and self._text[self._at] not in ",]}\n#":
                self._at += 1

    def _items(self, at: Keys, closing: str) -> None:
        self._at += 1
        index = 0
        while self._skip() and self._text[self._at] != closing:
            if self._text[self._at] == ",":
                self._at += 1
            elif closing == "}":
                self._pair(at)
            else:
                item: Keys = (*at, index)
                self.found[item] = self._line()
                self._value(item)
                index += 1
        self._at += 1

    def _string(self) -> None:
        quote = self._text[self._at]
        if self._text.startswith(quote * 3, self._at):
            quote *= 3
        self._at += len(quote)
        while self._at < len(self._text) and not self._text.startswith(quote, self._at):
            self._at += 2 if quote[0] == '"' and self._text[self._at] == "\\" else 1
        self._at += len(quote)
        while len(quote) == 3 and self._text.startswith(quote[0], self._at):
            self._at += 1  # a quotation mark just before the closing three

    def _skip(self) -> bool:
        """Past blanks and comments; False at the end of the text."""
        while self._at < len(self._text):
            if self._text[self._at] == "#":
                end = self._text.find("\n", self._at)
                self._at = len(self._text) if end < 0 else end
            elif self._text[self._at] in " \t\n\r":
                self._at += 1
            else:
                return True
        return False

    def _line(self) -> int:
        return self._text.count("\n", 0, self._at) + 1
