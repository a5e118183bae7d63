"""Reads devices.toml strictly: a key it does not know is refused with its line and a suggestion."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from edgeopt.device.address import parse
from edgeopt.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["FILE_NAME", "Entry", "read_entries"]

FILE_NAME = "devices.toml"
_KEYS = (
    "url",
    "key",
    "python",
    "workdir",
    "benchmark_binary",
    "runtime",
    "target",
    "tags",
    "cache_mb",
    "edgetpu_device",
    "edgetpu_performance",
    "labgrid",
    "labgrid_coordinator",
    "lease_dir",
    "prepare_command",
)
_TEXTS = (
    "python",
    "workdir",
    "runtime",
    "target",
    "edgetpu_device",
    "edgetpu_performance",
    "labgrid",
    "labgrid_coordinator",
    "lease_dir",
)
_SECRETS = ("password", "passwd", "pass", "passphrase", "secret", "token")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PLACE = re.compile(r"[A-Za-z0-9_][^\s/*]*")  # no option of labgrid-client, no pattern


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One [devices.NAME]: its address, and settings named like DeviceSpec's fields."""

    name: str
    url: str
    settings: dict[str, Any]


def read_entries(path: Path) -> list[Entry]:
    """The devices of one file; none when it is not there. Raises InputError naming the line."""
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}.", "Check the file.") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not valid TOML: {error}.", "Correct that line.") from error
    except RecursionError as error:
        raise _too_deep(path) from error
    try:
        return _Reader(path, text).entries(document)
    except RecursionError as error:
        raise _too_deep(path) from error


def _too_deep(path: Path) -> InputError:
    return InputError(f"{path} nests too deeply for an inventory.", "Write [devices.NAME] tables.")


class _Reader:
    """Knows the file's text, so that every complaint can name a line."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines = text.splitlines()

    def entries(self, document: dict[str, Any]) -> list[Entry]:
        self._refuse_secrets(document)
        for key in document:
            if key not in ("schema", "devices"):
                raise self._unknown(key, "", ("schema", "devices"))
        if document.get("schema") != 1:
            raise InputError(
                f"{self.path} has schema {document.get('schema')!r}; this edgeopt reads 1.",
                "Put `schema = 1` on its first line.",
            )
        devices = document.get("devices", {})
        if not isinstance(devices, dict):
            raise self._wrong("devices", "", "a table for each device: [devices.NAME]")
        return [self._entry(name, table) for name, table in devices.items()]

    def _entry(self, name: str, table: Any) -> Entry:
        if not _NAME.fullmatch(name) or name in ("local", "all"):
            wanted = "a name of letters, digits, '.', '_', '-'; not local or all"
            raise self._wrong(name, "", wanted)
        if not isinstance(table, dict):
            raise self._wrong(name, "", f"a table: [devices.{name}]")
        for key in table:
            if key not in _KEYS:
                raise self._unknown(key, name, _KEYS)
        settings = dict(self._settings(name, table))
        if "url" not in table:
            if "labgrid" in table:
                return Entry(name=name, url="", settings=settings)
            raise self._wrong("url", name, 'an address: url = "ssh://user@host"')
        url = self._text(table["url"], "url", name)
        if url != "local" and "://" not in url:
            raise self._wrong("url", name, "local, ssh://user@host[:port] or adb://SERIAL")
        try:
            parse(url)
        except InputError as error:
            raise InputError(f"{self._at('url', name)}: {error.message}", error.hint) from error
        return Entry(name=name, url=url, settings=settings)

    def _settings(self, name: str, table: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        for key in _TEXTS:
            if key in table:
                yield key, self._text(table[key], key, name)
        if not _PLACE.fullmatch(table.get("labgrid", "x")):
            raise self._wrong("labgrid", name, "the name of a place")
        if not table.get("labgrid_coordinator", "x")[0].isalnum():
            raise self._wrong("labgrid_coordinator", name, "HOST or HOST:PORT")
        if not table.get("lease_dir", "/x").startswith("/"):
            raise self._wrong("lease_dir", name, "an absolute path on the device")
        if "prepare_command" in table:
            yield "prepare_command", self._words("prepare_command", table, name)
        for key, field in (("key", "key_file"), ("benchmark_binary", "benchmark_binary")):
            if key in table:
                yield field, self._file(key, table, name)
        if "tags" in table:
            tags = table["tags"]
            if not isinstance(tags, list) or not all(isinstance(t, str) and t for t in tags):
                raise self._wrong("tags", name, 'a list of words: tags = ["lab", "a76"]')
            yield "tags", tuple(tags)
        if "cache_mb" in table:
            size = table["cache_mb"]
            if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 1 << 20:
                raise self._wrong("cache_mb", name, "a whole number of megabytes from 1")
            yield "cache_limit_bytes", size * 1_000_000

    def _words(self, key: str, table: dict[str, Any], name: str) -> tuple[str, ...]:
        text = self._text(table[key], key, name)
        try:
            words = tuple(shlex.split(text))
        except ValueError as error:
            raise self._wrong(key, name, f"a command ({error})") from error
        if not words or words[0].startswith("-"):
            raise self._wrong(key, name, 'a command, such as "sudo -n"')
        return words

    def _file(self, key: str, table: dict[str, Any], name: str) -> Path:
        """Relative paths count from the file that names them, not from the working folder."""
        text = self._text(table[key], key, name)
        try:
            return self.path.parent.joinpath(Path(text).expanduser())
        except RuntimeError as error:  # ~somebody who has no login here
            raise self._wrong(key, name, f"a file ({error})") from error

    def _text(self, value: Any, key: str, name: str) -> str:
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            raise self._wrong(key, name, "a non-empty text in quotes")
        return value

    def _refuse_secrets(self, table: dict[str, Any], section: str = "") -> None:
        for key, value in table.items():
            if key.lower() in _SECRETS and not isinstance(value, dict):
                raise InputError(
                    f"{self._at(key, section)}: {key!r} is refused; edgeopt never stores or sends"
                    " passwords.",
                    "Delete that line, and use an SSH key: ssh-copy-id user@host, then key = ...",
                )
            if isinstance(value, dict):
                self._refuse_secrets(value, key)

    def _unknown(self, key: str, name: str, known: tuple[str, ...]) -> InputError:
        near = get_close_matches(key, known, 1)
        guess = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}."
        return InputError(f"{self._at(key, name)}: {key!r} is not a key of devices.toml.", guess)

    def _wrong(self, key: str, name: str, wanted: str) -> InputError:
        owner = f" of {name}" if name else ""
        return InputError(f"{self._at(key, name)}: {key}{owner} must be {wanted}.", "")

    def _at(self, key: str, section: str) -> str:
        """`devices.toml:7`, as far as the line can be found in the text."""
        header = self._find(lambda line: _is_header(line, section)) if section else 0
        start = header or 0
        word = re.compile(rf"""^\s*(?:\S*\.)?["']?{re.escape(key)}["']?\s*=""")
        line = self._find(lambda text: bool(word.match(text)), start)
        if line is None and not section:
            line = self._find(lambda text: _is_header(text, key))
        number = line if line is not None else header
        return f"{self.path}:{number + 1}" if number is not None else str(self.path)

    def _find(self, test: Callable[[str], bool], start: int = 0) -> int | None:
        for number in range(start, len(self.lines)):
            if number > start and start and self.lines[number].lstrip().startswith("["):
                return None
            if test(self.lines[number]):
                return number
        return None


def _is_header(line: str, name: str) -> bool:
    words = line.split("#")[0].strip().strip("[] ").replace('"', "").replace("'", "")
    return line.lstrip().startswith("[") and words in (name, f"devices.{name}")
