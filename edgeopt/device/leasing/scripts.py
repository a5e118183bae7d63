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
    case $f in *-beat|*[!a-z0-9-]*) continue;; esac
    [ -f "./$f" ] && [ ! -L "./$f" ] || continue
    s=; [ -f "./$f-beat" ] && read -r s 2>/dev/null <"./$f-beat"
    case $s in ''|0?*|*[!0-9]*|???????????*) s=$t;; esac
    w=; read -r w 2>/dev/null <"./$f" || continue
    [ "$w" = "boot $b" ] && w=same || w=other
    printf '%s\n' "lease $f $((t - s)) $w" "$(head -c 2000 2>/dev/null <"./$f" | sed 's/^/| /')"
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

# $3 name, $4 what it says, in lines. Nothing that lies there is written into, nor followed: another
# login may have put it there. Written whole before anybody sees it; then all leases are
# listed: of two that come at the same moment, each has written before it looks, so one sees the
# other, and who sees another withdraws.
TAKE = (
    _NOW
    + _ENTER
    + r"""set -C; now; echo "$t" >"./$3-beat" && printf '%s\n' "boot $b" "$4" >"./tmp-$3" || {
  n=$3; set -- $(df -Pk . 2>/dev/null | tail -n 1); rm -f "./$n-beat" "./tmp-$n"
  [ "${4:-1}" != 0 ] || exit 24 # a shell's word for a full disk may be any
  exit 14; }
mv -f "./tmp-$3" "./$3" || exit 14
all"""
)

# $3 name, $4 its time to live, $5 a word that nobody can guess. Exit 17: somebody ended this lease;
# 18: it had been silent for so long that another may have taken the device.
BEAT = (
    _NOW
    + _ENTER
    + r"""set -C; gone() { [ ! -e "./$1" ]; }
gone "$3" && exit 17
now; s=; read -r s 2>/dev/null <"./$3-beat"; case $s in ''|*[!0-9]*) s=$t;; esac
[ $((t - s)) -lt "$4" ] || exit 18
echo "$t" >"./tmp-$3-$5" && mv -f "./tmp-$3-$5" "./$3-beat" || { rm -f "./tmp-$3-$5"; exit 14; }
gone "$3" && { rm -f "./$3-beat"; exit 17; }
exit 0"""
)

# $3... names; what others still hold keeps the folder. Exit 14: one of them is another login's.
DROP = (
    '[ -d "$1" ] || exit 0\n'  # `devices clean` has just removed it
    + _ENTER
    + r"""shift 2; stuck=
for n do rm -f "./$n" "./$n-beat" "./tmp-$n"* || stuck=1; done; [ -z "$stuck" ] || exit 14"""
)
