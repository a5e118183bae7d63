"""The shell scripts behind Workspace: one script a step, so that a step costs one round trip.

POSIX sh with what busybox, toybox (Android) and macOS have in common. Every value arrives as a
positional parameter, never by substitution into the text, so no path can become a command. mksh
has 32-bit arithmetic: sizes are counted in kilobytes here and in bytes on the host.
"""

from __future__ import annotations

__all__ = ["CLEAN", "DISCARD", "END", "MAKE_DIR", "PREPARE", "REMOVE", "SEAL", "SEAL_TREE", "TRIM"]

_PRELUDE = r"""umask 077; LC_ALL=C; export LC_ALL
h='[0-9a-f]'; h=$h$h$h$h; h=$h$h$h$h; h=$h$h$h$h
sum() {
  if command -v sha256sum >/dev/null 2>&1; then s=$(sha256sum <"$1")
  elif command -v shasum >/dev/null 2>&1; then s=$(shasum -a 256 <"$1")
  elif command -v toybox >/dev/null 2>&1; then s=$(toybox sha256sum <"$1")
  elif command -v busybox >/dev/null 2>&1; then s=$(busybox sha256sum <"$1")
  elif command -v openssl >/dev/null 2>&1; then s=$(openssl dgst -sha256 -r <"$1")
  else echo 'no sha256sum' >&2; exit 21; fi
  s=${s%% *}; [ ${#s} -eq 64 ] || exit 22
}
used_kb() { k=$(du -sk . 2>/dev/null); k=${k%%[!0-9]*}; k=${k:-0}; }
used() { cat run-*-uses 2>/dev/null | grep -qxF "$1"; }
evict() {
  used_kb; [ "$k" -gt "$1" ] || return 0
  for e in $(ls -1tr); do
    case $e in $h*) ;; *) continue;; esac
    used "$e" && continue
    rm -rf "./$e"; used_kb; [ "$k" -gt "$1" ] || return 0
  done
}
"""

# $1 root, $2 limit in kB, $3 wanted entry, $4 its sha256 ('' for a tree), $5 the session's list of
# what it uses, $6 the entry's size in kB, $7 programs to look for, $8 a word: commands that
# have it among theirs are listed ('': do not look). Prints what it knows, the root last because it
# may hold anything. The entry is listed before it is looked for: see DISCARD.
PREPARE = (
    _PRELUDE
    + r"""r=$1; limit=$2; name=$3; want=$4; uses=$5; need=$6; look=$7; ours=$8
case $r in '~'/*) r=${HOME:?no home}/${r#'~/'};; esac
case $r in /*) ;; *) r=${HOME:-$PWD}/$r;; esac
[ -d "$r" ] || mkdir -p "$r" || exit 11
[ -O "$r" ] || exit 12
m=$(ls -ld "$r/") || exit 11
case $m in ?????w*|????????w*) exit 13;; esac
[ -w "$r" ] && [ -x "$r" ] || exit 14
cd "$r" || exit 11
find . -maxdepth 1 -name 'tmp-*' -mmin +60 -exec rm -rf {} + 2>/dev/null
find . -maxdepth 1 -name 'run-*' -mtime +1 -exec rm -rf {} + 2>/dev/null
trap '[ $? -eq 0 ] || rm -f "$uses"' 0
[ -z "$name" ] || echo "$name" >>"$uses" || { # a shell's word for a full disk may be any
  set -- $(df -Pk . 2>/dev/null | tail -n 1); [ "${4:-1}" = 0 ] && exit 24; exit 14; }
if [ -n "$want" ] && [ -f "$name" ] && [ ! -L "$name" ]; then
  sum "$name"
  if [ "$s" = "$want" ]; then touch "$name"; echo have; need=0; else rm -f "$name"; fi
fi
[ -z "$name" ] || [ ! -d "$name" ] || need=0
for e in tmp-* run-* prepared-*; do [ -e "$e" ] && echo "left $e"; done
for e in prepared-*; do while read -r k v; do
  [ "$k" = lease ] && [ ! -e "$v" ] && echo "unheld $e"; done 2>/dev/null <"./$e"; done
evict $((limit - need))
used_kb; echo "used $((k + need))"
set -- $(df -Pk . 2>/dev/null | tail -n 1); case $4 in *[!0-9]*|'') ;; *) echo "free $4";; esac
[ -z "$ours" ] || for f in $(grep -lF -e "$ours" /proc/[0-9]*/cmdline 2>/dev/null); do
  p=${f%/cmdline}; echo "runs ${p##*/} $(tr '\0' '\n' <"$f" 2>/dev/null |
    sed -n "s/.*edgeopt-\(${ours#edgeopt-}[0-9]*\)-.*/\1/p" | head -n 1)"; done
for c in $look; do command -v "$c" >/dev/null 2>&1 && echo "can $c"; done
printf 'root %s/' "$PWD"
"""
)

# $1 root, $2 temporary name, $3 final name, $4 sha256, $5 mode.
SEAL = (
    _PRELUDE
    + r"""cd "$1" || exit 11
sum "$2"
if [ "$s" != "$4" ]; then rm -f "$2"; printf '%s' "$s"; exit 15; fi
chmod "$5" "$2" && rm -rf "$3" && mv -f "$2" "$3" || { rm -f "$2"; exit 16; }
"""
)

# $1 root, $2 folder made of names below it; $3 'new' or the final name; then mode, sha256 and
# relative path of each file. With 'new' the subfolders are made; else all is compared, and the
# folder renamed unless it has that name already. Exit 17: not there, or not these files.
SEAL_TREE = (
    _PRELUDE
    + r"""cd "$1" || exit 11
top=$2; final=$3; shift 3
if [ "$final" = new ]; then
  mkdir "$top" || exit 16
  for d do mkdir -p "$top/$d" || { rm -rf "$top"; exit 16; }; done
  exit 0
fi
[ -d "$top" ] && [ ! -L "$top" ] || exit 17
files=$(find "$top" ! -type d | wc -l)
[ $((files)) -eq $(($# / 3)) ] || exit 17
while [ $# -ge 3 ]; do
  [ -f "$top/$3" ] && [ ! -L "$top/$3" ] || exit 17
  sum "$top/$3"; [ "$s" = "$2" ] || { printf '%s' "$3"; exit 17; }
  chmod "$1" "$top/$3" || exit 16
  shift 3
done
touch "$top"
[ "$top" = "$final" ] || { rm -rf "$final" && mv "$top" "$final"; } || exit 16
"""
)

# $1 root, $2 name.
MAKE_DIR = r"""umask 077; cd "$1" && mkdir "$2" """

# Process ids: each with its process group if it leads one, else it is first asked to end, which it
# may know how to do for what it has started. (dash takes no `--` before a group's number.)
END = r"""rest=; for p do kill -KILL "-$p" 2>/dev/null || { kill -TERM "$p" && rest="$rest $p"; }
done 2>/dev/null; [ -z "$rest" ] || { sleep 1; kill -KILL $rest 2>/dev/null; }; exit 0"""

# $1 root, then names inside it.
REMOVE = r"""cd "$1" 2>/dev/null || exit 0
shift; for e do rm -rf "./$e" || exit 16; done"""

# $1 root, $2 the session's list of what it uses, $3 what it still uses, then the names to remove;
# then the folder itself, as far as it is empty. What another session lists stays: it lists before
# it looks, and here an entry is moved away before the lists are read, so that one of the two always
# sees the other. The lock goes with the last entry: whoever else runs here has a list of his own.
DISCARD = (
    _PRELUDE
    + r"""r=$1; uses=$2; still=$3; cd "$r" 2>/dev/null || exit 0
rm -f "./$uses"; [ -z "$still" ] || printf '%s\n' $still >"$uses" || exit 14
shift 3; away=tmp-${uses#run-}
for e do
  mv "./$e" "$away" 2>/dev/null || continue
  if used "$e" && [ ! -e "$e" ]; then mv "$away" "./$e"; else rm -rf "./$away"; fi || exit 16
done
for e in * .*; do case $e in .|..|'*'|'.*'|edgeopt.lock) ;; *) exit 0;; esac; done
rm -f edgeopt.lock; cd / && rmdir "$r" 2>/dev/null
[ "$r" = "${HOME:-}/.cache/edgeopt" ] && rmdir "${r%/*}" 2>/dev/null
exit 0"""
)

# $1 root, $2 limit in kB.
TRIM = _PRELUDE + r"""cd "$1" || exit 0; evict "$2" """

# $1 root, $2 the script that puts a prepared device back, then the words that it needs to write.
# Prints `ls -ln` of the files that go; exit 19: the device stays prepared. Only names that edgeopt
# gives are touched, so a
# work folder that is also someone's home loses nothing else.
CLEAN = (
    _PRELUDE
    + r"""r=$1; back=$2; shift 2; case $r in '~'/*) r=${HOME:?no home}/${r#'~/'};; esac
case $r in /*) ;; *) r=${HOME:-$PWD}/$r;; esac
cd "$r" 2>/dev/null || exit 0
stuck=; for e in prepared-*; do
  [ ! -f "$e" ] || sh -c "$back" edgeopt "$PWD" "$e" "$@" </dev/null >/dev/null || stuck=1; done
for e in * .*; do
  case $e in lease-reserved-*) continue;; # whoever is here may: it is their own
    $h*|tmp-*|run-*|lease-*|edgeopt.lock) ;; *) continue;; esac
  case $e in run-*-uses|lease-*) ;; *) find "./$e" -type f -exec ls -ln {} +;; esac
  rm -rf "./$e" || exit 16
done
cd / && rmdir "$r" 2>/dev/null
[ "$r" = "${HOME:-}/.cache/edgeopt" ] && rmdir "${r%/*}" 2>/dev/null
[ -z "$stuck" ] || exit 19
exit 0
"""
)
