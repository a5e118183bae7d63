"""`compiler install` against a stand-in of Google's repository on this machine: an HTTP server with
a package whose compiler is a double, and says so."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from apt_double import DOUBLE, LIST, PROGRAM, RELEASE, Handler, Repository, control, deb

from edgeopt import paths
from edgeopt.compile import CompileOptions
from edgeopt.compile.apt_index import newer
from edgeopt.compile.compiler_host import VARIABLE, find_host, locate
from edgeopt.compile.deb import fields_of_deb, unpack_deb
from edgeopt.compile.install import install, remove
from edgeopt.compile.installed import home, installed
from edgeopt.errors import InputError, ToolError
from edgeopt.progress import Silent


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Repository]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    (tmp_path / "play.json").write_text("{}")
    monkeypatch.setenv("EDGEOPT_COMPILER_DOUBLE", str(tmp_path / "play.json"))
    with Repository(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads, running.block_on_close, running.asked = True, False, []
        running.offers(deb())
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def leftovers() -> list[str]:
    """What is in the folder of compilers besides the record, the lock and what is recorded."""
    present = installed()
    kept = {present.path.parents[2].name} if present else set()
    return sorted(
        p.name for p in home().iterdir() if p.name not in {"installed.json", ".lock"} | kept
    )


def test_the_newest_package_is_installed_and_found_from_then_on(repository: Repository) -> None:
    done = install(Silent(), index=repository.url)
    assert done.fresh and done.compiler.is_double and done.compiler.version == "16.0.384591198"
    assert done.compiler.path.is_relative_to(paths.state_dir())
    assert done.compiler.source.endswith("edgetpu-compiler_16.0_amd64.deb")
    found = locate(CompileOptions())
    assert found.origin == "edgeopt compiler install" and found.host.is_stand_in
    assert "(edgeopt test double)" in found.host.version()
    assert any("signature was not checked" in note for note in done.notes)
    assert not install(Silent(), index=repository.url).fresh
    assert leftovers() == []


def test_a_compiler_on_path_comes_before_the_installed_one(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(Silent(), index=repository.url)
    shutil.copy2(DOUBLE, tmp_path / "edgetpu_compiler")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert locate(CompileOptions()).origin == "PATH"
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert locate(CompileOptions()).origin == VARIABLE
    assert locate(CompileOptions(compiler=str(DOUBLE))).origin == "--compiler"


def test_what_is_removed_is_not_found_any_more(repository: Repository) -> None:
    install(Silent(), index=repository.url)
    gone = remove()
    assert gone is not None and not gone.path.exists() and not home().exists()
    assert remove() is None
    with pytest.raises(ToolError, match="There is no edgetpu_compiler") as caught:
        find_host(CompileOptions())
    assert "edgeopt compiler install" in caught.value.hint


@pytest.mark.parametrize("packed", [".xz", ".gz", "", ".zst"])
def test_a_package_given_by_hand_needs_no_network(
    repository: Repository, tmp_path: Path, packed: str
) -> None:
    if packed == ".zst" and not shutil.which("zstd"):
        pytest.skip("the program zstd is not installed")
    package = tmp_path / "compiler.deb"
    package.write_bytes(deb(packed=packed))
    done = install(Silent(), index="http://127.0.0.1:1", deb=package)
    assert done.compiler.signature == "not checked: the file was given by hand"
    assert repository.asked == []


def test_links_that_stay_inside_are_made(repository: Repository) -> None:
    inner = ("./usr/bin/x_bin/libc-2.so", tarfile.REGTYPE, b"library", "")
    soft = ("./usr/bin/x_bin/libc.so", tarfile.SYMTYPE, b"", "libc-2.so")
    hard = ("./usr/bin/x_bin/libd.so", tarfile.LNKTYPE, b"", "./usr/bin/x_bin/libc-2.so")
    repository.offers(deb(soft, inner, hard))
    folder = install(Silent(), index=repository.url).compiler.path.parent / "x_bin"
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == dict.fromkeys(
        ("libc-2.so", "libc.so", "libd.so"), b"library"
    )


BAD: dict[str, tuple[bytes, str]] = {
    "up": (deb(("../../evil", tarfile.REGTYPE, b"x", "")), "leads outside"),
    "root": (deb(("/tmp/evil", tarfile.REGTYPE, b"x", "")), "leads outside"),
    "link up": (deb(("./usr/l", tarfile.SYMTYPE, b"", "../../etc")), "leads outside"),
    "link root": (deb(("./usr/l", tarfile.SYMTYPE, b"", "/etc/passwd")), "leads outside"),
    "hard link up": (deb(("./usr/l", tarfile.LNKTYPE, b"", "../x")), "leads outside"),
    "through a link": (
        deb(("./l", tarfile.SYMTYPE, b"", "usr"), ("./l/x", tarfile.REGTYPE, b"", "")),
        "cannot be read",
    ),
    "link through links": (
        deb(
            ("./x", tarfile.SYMTYPE, b"", "."),
            ("./y", tarfile.SYMTYPE, b"", "x/x/x/../.."),
            ("./y/evil", tarfile.SYMTYPE, b"", "usr"),
        ),
        "leads outside",
    ),
    "device": (deb(("./usr/null", tarfile.CHRTYPE, b"", "")), "neither a file"),
    "no program": (deb(program=("./usr/x", tarfile.REGTYPE, b"", "")), "holds no usr/bin"),
    "dead program": (deb(program=(*PROGRAM[:2], b"#!/bin/sh\nexit 1\n", "")), "does not start"),
    "another package": (deb(head=control(Package="sl")), "not edgetpu-compiler"),
    "another processor": (deb(head=control(Architecture="arm64")), "not edgetpu-compiler"),
    "no deb": (b"<html>log in</html>", "no Debian package"),
    "damaged": (deb()[:-200], "cannot be read"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_package_is_refused_and_the_old_compiler_stays(
    repository: Repository, case: str
) -> None:
    before = install(Silent(), index=repository.url).compiler
    package, words = BAD[case]
    repository.offers(package, Version="17.0")
    with pytest.raises(ToolError, match=words):
        install(Silent(), index=repository.url)
    assert installed() == before and leftovers() == []


@pytest.mark.parametrize("packed", ["", ".gz", ".xz"])
def test_no_damage_does_more_than_refuse_the_package(tmp_path: Path, packed: str) -> None:
    good, dice = deb(packed=packed), random.Random(5)
    package = tmp_path / "x.deb"
    for number in range(150):
        data = bytearray(good[: dice.randrange(len(good))] if number % 3 == 0 else good)
        for _ in range(dice.randrange(1, 4) if data else 0):
            data[dice.randrange(len(data))] = dice.randrange(256)
        package.write_bytes(data)
        (tmp_path / str(number)).mkdir()
        with contextlib.suppress(ToolError):
            fields_of_deb(package)
            unpack_deb(package, tmp_path / str(number))
    assert sorted(tmp_path.glob("*.deb")) == [package]


def test_a_package_with_another_hash_is_refused(repository: Repository) -> None:
    repository.offers(deb(), SHA256="1" * 64)
    with pytest.raises(ToolError, match="is not the package that the index lists"):
        install(Silent(), index=repository.url)
    assert installed() is None and leftovers() == []


def test_an_index_that_release_does_not_vouch_for_is_refused(repository: Repository) -> None:
    repository.files[f"{LIST}.gz"] = gzip.compress(repository.files[LIST] + b"\n")
    with pytest.raises(ToolError, match="Release lists"):
        install(Silent(), index=repository.url)


def test_a_repository_without_release_or_gz_is_used_with_a_note(repository: Repository) -> None:
    repository.offers(deb(), release=False)
    del repository.files[f"{LIST}.gz"]
    notes = install(Silent(), index=repository.url).notes
    assert any("no Release file" in note for note in notes)
    remove()
    assert install(Silent(), index=f"{repository.url}/{LIST}").fresh


def test_a_mirror_without_suites_is_read_too(repository: Repository) -> None:
    repository.files["Packages"] = repository.files.pop(LIST)
    del repository.files[f"{LIST}.gz"], repository.files[RELEASE]
    assert install(Silent(), index=repository.url).fresh


def test_a_damaged_installation_is_made_anew(repository: Repository) -> None:
    path = install(Silent(), index=repository.url).compiler.path
    path.write_bytes(PROGRAM[2] + b"# changed")
    assert install(Silent(), index=repository.url).fresh
    assert path.read_bytes() == PROGRAM[2]


def test_a_broken_download_leaves_nothing(repository: Repository) -> None:
    repository.cut = True
    with pytest.raises(ToolError, match=r"could not be fetched|broke off"):
        install(Silent(), index=repository.url)
    assert installed() is None and leftovers() == []


def test_without_the_package_or_the_server_the_way_by_hand_is_told(repository: Repository) -> None:
    repository.offers(deb(), Package="something-else")
    repository.files[LIST] = b"Package: x\n"
    repository.files[f"{LIST}.gz"] = gzip.compress(b"Package: x\n")
    repository.release()
    with pytest.raises(ToolError, match="has no package edgetpu-compiler") as caught:
        install(Silent(), index=repository.url)
    assert "--deb FILE" in caught.value.hint and "container:" in caught.value.hint
    with pytest.raises(ToolError, match="could not be fetched") as caught:
        install(Silent(), index="http://127.0.0.1:1/apt")
    assert "--deb FILE" in caught.value.hint


@pytest.mark.parametrize("index", ["file:///etc", "ftp://h/x", "nonsense", "https://"])
def test_what_is_no_repository_is_refused(repository: Repository, index: str) -> None:
    with pytest.raises(InputError, match="no address of an apt repository"):
        install(Silent(), index=index)


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "arm64"), ("Linux", "aarch64")])
def test_other_machines_are_told_where_to_compile(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, system: str, machine: str
) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    with pytest.raises(ToolError, match="x86-64 Linux only") as caught:
        install(Silent(), index=repository.url)
    assert "ssh://" in caught.value.hint and repository.asked == []


CODE = (
    "import platform, sys; from edgeopt.compile.install import install\n"
    "from edgeopt.progress import Silent\n"
    "platform.system, platform.machine = (lambda: 'Linux'), (lambda: 'x86_64')\n"
    "print(install(Silent(), index=sys.argv[1]).fresh)"
)


def started(url: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(DOUBLE.parents[2])}
    words = [sys.executable, "-c", CODE, url]
    return subprocess.Popen(
        words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_installation_that_is_ended_leaves_no_compiler_and_is_swept(
    repository: Repository, number: int
) -> None:
    repository.slow = True
    with started(repository.url) as process:
        deadline = time.monotonic() + 20
        while not any(p.endswith(".deb") for p in repository.asked) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        process.communicate(timeout=20)
    assert installed() is None
    assert (leftovers() == []) == (number == signal.SIGINT)
    repository.slow = False
    install(Silent(), index=repository.url)
    assert leftovers() == []


def test_two_at_once_give_one_compiler(repository: Repository) -> None:
    both = [started(repository.url) for _ in range(2)]
    said = sorted(process.communicate(timeout=60)[0].strip() for process in both)
    assert said == ["False", "True"] and leftovers() == []
    assert json.loads((home() / "installed.json").read_text())["is_double"] is True


def test_versions_are_ordered_as_debian_does() -> None:
    ordered = ["2.1", "14.1", "15.0~rc1", "15.0", "15.0-1", "15.0.1", "16.0", "1:1.0"]
    for older, later in itertools.pairwise(ordered):
        assert newer(later, older) > 0 > newer(older, later), (older, later)
    assert newer("16.0", "16.0") == 0


def test_a_signed_index_is_held_against_the_keyring(repository: Repository, tmp_path: Path) -> None:
    if not shutil.which("gpg") or not shutil.which("gpgv"):
        pytest.skip("gpg and gpgv are not installed")
    folder = tmp_path / "gnupg"
    folder.mkdir(mode=0o700)

    def gpg(*words: str, feed: bytes = b"") -> bytes:
        base = ["gpg", "--homedir", str(folder), "--batch", "--passphrase", "", "--quiet"]
        return subprocess.run([*base, *words], input=feed, capture_output=True, check=True).stdout

    gpg("--quick-gen-key", "one@example.test", "rsa2048", "sign", "never")
    (tmp_path / "key.asc").write_bytes(gpg("--armor", "--export", "one@example.test"))
    (tmp_path / "key.gpg").write_bytes(gpg("--export", "one@example.test"))
    signed = gpg("--clearsign", feed=repository.files[RELEASE])
    place = RELEASE.replace("Release", "InRelease")
    repository.files[place] = signed
    for name in ("key.asc", "key.gpg"):
        done = install(Silent(), index=repository.url, keyring=tmp_path / name)
        assert done.compiler.signature.startswith("verified with") and not done.notes
        remove()
    repository.files[place] = signed.replace(b"Suite: x", b"Suite: y")
    with pytest.raises(ToolError, match="is not signed by a key"):
        install(Silent(), index=repository.url, keyring=tmp_path / "key.gpg")
    assert installed() is None
    subprocess.run(["gpgconf", "--homedir", str(folder), "--kill", "all"], check=False)
