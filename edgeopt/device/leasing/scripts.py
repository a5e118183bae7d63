"""The shell scripts behind a lease; POSIX sh, every value a positional parameter.

A lease is a file `lease-ID` with what it says, and `lease-ID-beat` with the time of its owner's
last sign of life. Time is the seconds since the device's boot: its calendar may jump, and a reboot
ends every run there was. Only where there is no /proc/uptime (macOS) is it the calendar's.
"""

from __future__ import annotations

__all__ = ["BEAT", "DROP", "LIST", "TAKE"]

_NOW = r"""now() {
  t=; read -r t x 2>/dev/null </proc/uptime; t=${t%%.*}
  case $t in ''|*[!0-9]*) t=$(date +%s);; esac
  b=; read -r b 2>/dev/null </proc/sys/kernel/random/boot_id; b=${b:-none}
}
all() {
  now
  for f in lease-*; do
    case $f in *-beat|'lease-*') continue;; esac
    s=; read -r s 2>/dev/null <"./$f-beat"; case $s in ''|*[!0-9]*) s=$t;; esac
    w=; read -r w 2>/dev/null <"./$f" || continue
    [ "$w" = "boot $b" ] && w=same || w=other
    echo "lease $f $((t - s)) $w"; while read -r l; do echo "| $l"; done <"./$f"
  done
  echo end
}
"""
# $1 folder, $2 mode of a folder for several logins ('' for the work folder, which is ours alone and
# which a session that ended may just have removed because it was empty).
_ENTER = r"""LC_ALL=C; export LC_ALL; umask 077
if [ -n "$2" ]; then
  umask 022; [ -d "$1" ] || mkdir -m "$2" "$1" 2>/dev/null; cd "$1" || exit 11
else [ -d "$1" ] || mkdir -p "$1"; cd "$1" && [ -O . ] || exit 11; fi
"""
LIST = _NOW + _ENTER + "all"

# $3 name, $4 what it says, in lines. Written whole before anybody sees it; then all leases are
# listed: of two that come at the same moment, each has written before it looks, so one sees the
# other, and who sees another withdraws.
TAKE = (
    _NOW
    + _ENTER
    + r"""now; echo "$t" >"./$3-beat" && printf '%s\n' "boot $b" "$4" >"./tmp-$3" || {
  rm -f "./$3-beat" "./tmp-$3"; exit 14; }
mv -f "./tmp-$3" "./$3" || exit 14
all"""
)

# $3 name. Exit 17: somebody ended this lease.
BEAT = (
    _NOW
    + _ENTER
    + r"""[ -e "./$3" ] || exit 17
now; echo "$t" >"./tmp-$3" && mv -f "./tmp-$3" "./$3-beat" || exit 14"""
)

# $3... names; what others still hold keeps the folder.
DROP = _ENTER + r"""shift 2; for n do rm -f "./$n" "./$n-beat" "./tmp-$n" || exit 14; done"""
