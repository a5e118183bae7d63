"""Google's apt repository, as far as one package needs it: Release, Packages, and their hashes.

The chain is that of apt: a signature over InRelease, in it the SHA-256 of Packages, in that the
SHA-256 and size of the package. The signature is checked where the user names the keyring, since
no key is shipped; without it the chain begins with the TLS connection to the server.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import re
import shutil
import subprocess
import zlib
from dataclasses import dataclass
from functools import cmp_to_key
from pathlib import Path
from urllib.parse import urlsplit

from edgeopt.errors import InputError, ToolError
from edgeopt.fetch import Missing, download

__all__ = ["BY_HAND", "DEFAULT_INDEX", "Candidate", "find_package", "newer"]

# Google's instructions (coral.ai/docs/edgetpu/compiler): deb URL coral-edgetpu-stable main.
DEFAULT_INDEX = "https://packages.cloud.google.com/apt"
SUITE, COMPONENT, ARCHITECTURE = "coral-edgetpu-stable", "main", "amd64"
PACKAGE = "edgetpu-compiler"
BY_HAND = (
    f"By hand: fetch the {PACKAGE} .deb of suite {SUITE} (amd64) on another machine and run "
    "`edgeopt compiler install --deb FILE`; or use a compiler elsewhere: --compiler "
    "container:IMAGE or ssh://user@host."
)
_MAX_INDEX_BYTES = 64 << 20
_INDEX_TIMEOUT_S = 120.0
_GPGV_TIMEOUT_S = 30


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """The newest package of the index. `signature` says what was checked, in words."""

    version: str
    url: str
    sha256: str
    size_bytes: int
    index: str
    signature: str
    notes: tuple[str, ...] = ()


def find_package(index: str, folder: Path, keyring: Path | None) -> Candidate:
    """The newest edgetpu-compiler for amd64 in the repository at `index`.

    `index` is the repository's base URL, or that of a Packages or Packages.gz file; `folder` takes
    what is fetched. Raises InputError for a URL of another kind, ToolError when the repository
    cannot be read, contradicts its hashes or its signature, or has no such package.
    """
    base, packages = _places(index)
    release, signature, notes = _release(base, packages, folder, keyring)
    try:
        text = _packages(packages, folder, release)
    except Missing:
        if release is not None:
            raise
        packages = f"{base}/Packages"  # a mirror without suites: one folder with everything
        text = _packages(packages, folder, None)
    found = [f for f in _stanzas(text) if f.get("package") == PACKAGE]
    found = [f for f in found if f.get("architecture") in (ARCHITECTURE, "all")]
    if not found:
        raise ToolError(f"{index} has no package {PACKAGE} for {ARCHITECTURE}.", BY_HAND)
    by_version = cmp_to_key(newer)
    best = max(found, key=lambda fields: by_version(fields.get("version", "")))
    sha256, size = best.get("sha256", ""), best.get("size", "")
    if not re.fullmatch(r"[0-9a-f]{64}", sha256) or not size.isdecimal() or "filename" not in best:
        raise ToolError(f"{index} gives {PACKAGE} without SHA-256, size or file name.", BY_HAND)
    return Candidate(
        version=best.get("version", ""),
        url=f"{base}/{best['filename'].removeprefix('./').lstrip('/')}",
        sha256=sha256,
        size_bytes=int(size),
        index=packages,
        signature=signature,
        notes=tuple(notes),
    )


def _places(index: str) -> tuple[str, str]:
    """The repository's base, and its Packages file."""
    url = urlsplit(index)
    if "@" in url.netloc:
        raise InputError(
            f"The address of {url.netloc.rpartition('@')[2]} holds a user or password; edgeopt"
            " takes none.",
            "Use a mirror without, or fetch the package yourself and give it with --deb.",
        )
    if url.scheme not in ("https", "http") or not url.hostname or url.query or url.fragment:
        raise InputError(
            f"{index!r} is no address of an apt repository.",
            f"Give one like {DEFAULT_INDEX} (https or http).",
        )
    index = index.rstrip("/")
    if index.rsplit("/", 1)[-1] in ("Packages", "Packages.gz"):
        base = index.split("/dists/", 1)[0] if "/dists/" in index else index.rsplit("/", 1)[0]
        return base, index.removesuffix(".gz")
    return index, f"{index}/dists/{SUITE}/{COMPONENT}/binary-{ARCHITECTURE}/Packages"


def _fetch(url: str, folder: Path, what: str) -> bytes:
    path = folder / "index.part"
    try:
        download(
            url,
            path,
            what=what,
            by_hand=BY_HAND,
            max_bytes=_MAX_INDEX_BYTES,
            timeout_s=_INDEX_TIMEOUT_S,
        )
        return path.read_bytes()
    finally:
        path.unlink(missing_ok=True)


def _release(
    base: str, packages: str, folder: Path, keyring: Path | None
) -> tuple[str | None, str, list[str]]:
    """Release's text (None: there is none), what was checked of it, and remarks."""
    place = f"{base}/dists/{SUITE}"
    if keyring is not None:
        signed = _fetch(f"{place}/InRelease", folder, "The repository's signed InRelease")
        return _verified(signed, keyring, folder), f"verified with {keyring}", []
    notes = ["The repository's signature was not checked: give Google's key with --keyring FILE."]
    if base.startswith("http://"):
        notes.append("The connection is plain http: nothing proves who wrote this index.")
    text = None
    with contextlib.suppress(Missing):
        if packages.startswith(f"{place}/"):
            text = _fetch(f"{place}/Release", folder, "The repository's Release")
    if text is None:
        notes.append("The repository has no Release file: its Packages file was taken as it is.")
    decoded = None if text is None else text.decode("utf-8", "replace")
    return decoded, "not checked: no --keyring was given", notes


def _packages(packages: str, folder: Path, release: str | None) -> str:
    """The text of Packages or Packages.gz, held against Release where there is one."""
    name = packages.partition(f"/dists/{SUITE}/")[2]
    listed = None if release is None else _listed(release)
    endings = [e for e in (".gz", "") if listed is None or f"{name}{e}" in listed]
    if not endings:
        raise ToolError(f"The repository's Release does not list {name}.", BY_HAND)
    for ending in endings:
        try:
            data = _fetch(packages + ending, folder, "The repository's Packages file")
        except Missing:
            if ending != endings[-1]:
                continue
            raise
        if listed is not None:
            _check_listed(data, listed[f"{name}{ending}"], packages + ending)
        try:
            return (_gunzip(data) if ending else data).decode()
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise ToolError(f"{packages}{ending} cannot be read: {error}.", BY_HAND) from error
    raise AssertionError("the last attempt returns or raises")


def _gunzip(data: bytes) -> bytes:
    unpacker = zlib.decompressobj(31)
    plain = unpacker.decompress(data, _MAX_INDEX_BYTES)
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise gzip.BadGzipFile("it is damaged, or larger than any index")
    return plain


def _listed(release: str) -> dict[str, tuple[str, str]]:
    """name: (sha256, size), of the lines under SHA256:."""
    section = re.search(r"^SHA256:[^\n]*\n((?:[ \t][^\n]*\n?)+)", release, re.MULTILINE)
    rows = [line.split() for line in section[1].splitlines()] if section else []
    return {row[2]: (row[0], row[1]) for row in rows if len(row) == 3}


def _check_listed(data: bytes, wanted: tuple[str, str], url: str) -> None:
    found = (hashlib.sha256(data).hexdigest(), str(len(data)))
    if found != wanted:
        raise ToolError(
            f"{url} has sha256 {found[0]}, and the repository's Release lists {wanted[0]}.",
            f"The repository is being updated, or was tampered with: try later. {BY_HAND}",
        )


def _stanzas(text: str) -> list[dict[str, str]]:
    """Packages: fields with lower-case names, one blank line between packages."""
    found: list[dict[str, str]] = []
    for stanza in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n")):
        lines = [line for line in stanza.splitlines() if line[:1] not in (" ", "\t", "")]
        pairs = (line.partition(":") for line in lines)
        found.append({key.strip().lower(): value.strip() for key, _, value in pairs})
    return found


def newer(one: str, other: str) -> int:
    """Compare Debian versions: above 0 when `one` is newer (deb-version(7))."""
    a, b = _parts(one), _parts(other)
    return (a > b) - (a < b)


def _parts(version: str) -> tuple[int, list[tuple[list[int], int]], list[tuple[list[int], int]]]:
    epoch, colon, rest = version.partition(":")
    if not colon or not epoch.isdecimal():
        epoch, rest = "0", version
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "0")
    return int(epoch), _keys(upstream), _keys(revision)


def _keys(text: str) -> list[tuple[list[int], int]]:
    """Runs of non-digits and digits in turn; `~` sorts before the end, letters before the rest."""

    def weight(character: str) -> int:
        if character == "~":
            return -1
        return ord(character) if character.isalpha() else ord(character) + 256

    runs = re.findall(r"(\D*)(\d*)", text)
    return [([*map(weight, word), 0], int(number or 0)) for word, number in runs]


def _verified(signed: bytes, keyring: Path, folder: Path) -> str:
    """The text that gpgv finds signed by a key of `keyring` (binary or armoured)."""
    program = shutil.which("gpgv")
    if program is None:
        raise ToolError("--keyring needs the program gpgv.", "Install it (apt install gpgv).")
    try:
        keys = keyring.read_bytes()
    except OSError as error:
        raise InputError(f"{keyring} cannot be read: {error.strerror}.") from error
    ring, message, plain = folder / "keyring.gpg", folder / "InRelease", folder / "Release"
    ring.write_bytes(_dearmoured(keys))
    message.write_bytes(signed)
    argv = [program, "--keyring", str(ring), "--output", str(plain), str(message)]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=_GPGV_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"gpgv does not work: {error}.", argv=argv) from error
    if done.returncode != 0 or not plain.is_file():
        said = done.stderr.decode("utf-8", "replace").strip()[-400:]
        raise ToolError(
            f"The repository's InRelease is not signed by a key of {keyring}: {said}",
            "Do not install from it. Is it Google's present key?",
            argv=argv,
            returncode=done.returncode,
        )
    return plain.read_text("utf-8", "replace")


def _dearmoured(keys: bytes) -> bytes:
    """gpgv reads binary keyrings only; RFC 4880 armour is base64 between two marked lines."""
    found = re.search(rb"-----BEGIN PGP[^\n]*\n(.*?)\n(?:=[^\n]*\n)?-----END", keys, re.DOTALL)
    if not found:
        return keys
    body = found[1].replace(b"\r", b"").split(b"\n\n", 1)[-1]
    return base64.b64decode(b"".join(body.split()))
