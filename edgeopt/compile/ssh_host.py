"""edgetpu_compiler on another machine: `ssh://[user@]host[:port][/path/to/edgetpu_compiler]`.

One session of the user's own `ssh` client does everything, so that their configuration, keys and
jump hosts apply and an unknown host key is refused. The model goes in through standard input, which
stays open: when it closes early (deadline, Ctrl-C, lost link) the far side kills the compiler and
removes its folder. Text, exit code and files come back as one tar on standard output.
"""

from __future__ import annotations

import io
import re
import shlex
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from edgeopt.compile.bounded import Execution, run_bounded
from edgeopt.compile.compiler_host import PROGRAM
from edgeopt.compile.contract import CompileOptions
from edgeopt.errors import InputError, ToolError

__all__ = ["SshHost", "ssh_host"]

_WORD = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:%-]*")
_LINK_ALLOWANCE_S = 60.0
_SLOWEST_BYTES_PER_S = 100_000
_MAX_REPLY_BYTES = 1 << 30
_VERSION_TIMEOUT_S = 30

# Exit codes of the far script; ssh itself uses 255.
_NO_FOLDER, _NO_COMPILER, _CUT_SHORT = 91, 92, 93

# What runs there: $1 compiler, $2 the models as NAME:BYTES with blanks between (names of ours),
# $3 seconds; then the flags. POSIX sh, coreutils and tar, which every Debian has. In one line: some
# login shells refuse a newline inside quotes.
_SCRIPT = " ".join(
    (
        'd=$(mktemp -d "${TMPDIR:-/tmp}/edgeopt.XXXXXX") || exit 91;',
        "trap 'cd /; rm -rf \"$d\"' EXIT; trap 'exit 130' HUP INT TERM PIPE;",
        "c=$1; n=$2; t=$3; shift 3;",
        'command -v "$c" >/dev/null || exit 92;',
        'cd "$d" && mkdir out || exit 91; l=;',
        'for m in $n; do f=${m%:*}; s=${m#*:}; head -c "$s" >"$f" || exit 91;',
        '[ "$(wc -c <"$f")" -eq "$s" ] || exit 93; l="$l $f"; done;',
        "exec 3<&0;",
        'timeout -k 5 "$t" "$c" "$@" -o out $l >stdout 2>stderr </dev/null 3<&- & p=$!;',
        "{ cat <&3; kill $p; } >/dev/null 2>&1 & w=$!;",
        "wait $p; echo $? >code; kill $w 2>/dev/null;",
        "tar -cf - stdout stderr code out",
    )
)

_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "ConnectTimeout=15",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "ClearAllForwardings=yes",
)

# Signs in what ssh says, the most telling first.
_VERSION_SCRIPT = 'command -v "$1" >/dev/null || exit 92; exec timeout 30 "$1" --version'

_ADVICE = {
    "host identification has changed": "Its host key is not the one you accepted. Find out why "
    "before you remove the old one with ssh-keygen -R.",
    "host key verification failed": "Connect once by hand (ssh HOST), compare the fingerprint with "
    "the machine's own, and accept it.",
    "permission denied": "edgeopt never asks for a password: set up a key (ssh-copy-id), or name "
    "it in your ssh configuration.",
    "could not resolve": "Check the host's name.",
    "connection refused": "Is sshd running there, and is the port right?",
    "timed out": "The host does not answer: check the address, the network and the firewall.",
    "no route": "The host does not answer: check the address and the network.",
}


def ssh_host(spec: str, options: CompileOptions) -> SshHost:
    """The host of an ssh:// URL. Raises InputError for a malformed one, ToolError without ssh."""
    hint = "Write ssh://[user@]host[:port][/path/to/edgetpu_compiler]."
    try:
        url = urlsplit(spec)
        host, port = url.hostname or "", url.port
        at = url.netloc.lower().rfind(
            host
        )  # hostname is lower case; ssh_config aliases need not be
        host = url.netloc[at : at + len(host)]
    except ValueError as error:
        raise InputError(f"{spec!r} is not an SSH address: {error}.", hint) from error
    user = unquote(url.username) if url.username else ""
    if url.password or url.query or url.fragment:
        raise InputError(
            f"{url.hostname or spec}: an SSH address holds no password or query.", hint
        )
    if not _WORD.fullmatch(host) or (user and not _WORD.fullmatch(user)):
        raise InputError(f"{spec!r} is not an SSH address.", hint)
    client = shutil.which("ssh")
    if client is None:
        raise ToolError(f"{spec} needs the ssh command, which is not on PATH.", "Install OpenSSH.")
    path = unquote(url.path)
    return SshHost(
        client=client,
        host=host,
        user=user,
        port=port,
        program=path if path not in ("", "/") else PROGRAM,
        config=options.extra.get("ssh_config"),
    )


@dataclass(frozen=True, kw_only=True)
class SshHost:
    client: str
    host: str
    user: str = ""
    port: int | None = None
    program: str = PROGRAM
    config: str | None = None
    kind: str = "program on another host"
    is_stand_in: bool = False

    @property
    def name(self) -> str:
        user = f"{self.user}@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        return f"ssh://{user}{self.host}{port}"

    def version(self) -> str:
        words = ["sh", "-c", _VERSION_SCRIPT, "edgeopt", self.program]
        ended = self._run(words, _VERSION_TIMEOUT_S + _LINK_ALLOWANCE_S)
        return f"{ended.text}\n{ended.error_text}"

    def argv(self, words: Sequence[str]) -> list[str]:
        """ssh's command line for a command there, quoted for the shell at the far end."""
        return [
            self.client,
            *(["-F", self.config] if self.config else []),
            "-T",
            *(word for option in _OPTIONS for word in ("-o", option)),
            *(["-p", str(self.port)] if self.port else []),
            *(["-l", self.user] if self.user else []),
            "--",
            self.host,
            shlex.join(words),
        ]

    def compile(
        self, flags: Sequence[str], models: Sequence[Path], out_dir: Path, timeout_s: float
    ) -> Execution:
        sizes = {model.name: model.stat().st_size for model in models}
        listed = " ".join(f"{name}:{size}" for name, size in sizes.items())
        words = ["sh", "-c", _SCRIPT, "edgeopt", self.program, listed]
        words += [str(max(1, round(timeout_s))), *flags]
        limit = timeout_s + _LINK_ALLOWANCE_S + sum(sizes.values()) / _SLOWEST_BYTES_PER_S
        return self._unpack(self._run(words, limit, models), out_dir)

    def _run(self, words: Sequence[str], timeout_s: float, feed: Sequence[Path] = ()) -> Execution:
        argv = self.argv(words)
        try:
            ended = run_bounded(
                argv, timeout_s=timeout_s, feed=feed, max_output_bytes=_MAX_REPLY_BYTES
            )
        except OSError as error:
            raise ToolError(f"ssh does not start: {error.strerror}.", argv=argv) from error
        if ended.exit_code != 0:
            self._refuse(ended)
        return ended

    def _refuse(self, ended: Execution) -> None:
        whole = ended.error_text.lower()
        said = ended.error_text.strip()[-800:]
        advice = "Try the same ssh command by hand."
        if ended.timed_out:
            message = f"{self.name} did not answer within {ended.seconds:.0f} s."
        elif ended.exit_code == _NO_COMPILER:
            message = f"{self.name} has no {self.program}."
            advice = "Install Google's edgetpu_compiler there, or add its path to the address."
        elif ended.exit_code in (_NO_FOLDER, _CUT_SHORT):
            message = f"{self.name} could not take the model: {said or 'its disk may be full'}."
        else:
            message = f"ssh to {self.name} failed: {said or f'exit code {ended.exit_code}'}"
            found = (text for sign, text in _ADVICE.items() if sign in whole)
            advice = next(found, advice)
        raise ToolError(message, advice, argv=ended.argv, returncode=ended.exit_code)

    def _unpack(self, ended: Execution, out_dir: Path) -> Execution:
        try:
            files = _untar(ended.stdout)
            code = int(files.pop("code"))
            stdout, stderr = files.pop("stdout"), files.pop("stderr")
        except (tarfile.TarError, KeyError, ValueError, EOFError) as error:
            raise ToolError(
                f"{self.name} sent back something that edgeopt does not understand.",
                "A login script that prints text is the usual cause: keep it silent.",
                argv=ended.argv,
            ) from error
        for name, data in files.items():
            (out_dir / name).write_bytes(data)
        timed_out = code == 124  # what timeout(1) returns at its deadline
        return replace(
            ended,
            exit_code=None if timed_out else code,
            timed_out=timed_out,
            stdout=stdout,
            stderr=stderr,
        )


def _untar(data: bytes) -> dict[str, bytes]:
    """Regular files by their last name; only the three texts and files directly in out/ count."""
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            text = path.parent == PurePosixPath(".") and path.name in _TEXTS
            if member.isreg() and (text or path.parent == PurePosixPath("out")):
                stream = archive.extractfile(member)
                if stream and (text or path.name not in _TEXTS):
                    files[path.name] = stream.read()
    return files


_TEXTS = frozenset({"stdout", "stderr", "code"})
