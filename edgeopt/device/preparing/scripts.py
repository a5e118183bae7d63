"""The shell scripts that prepare a device and put it back. POSIX sh, also Android's and busybox's.

Every value arrives as a positional parameter. A record in the work folder (0600, written whole,
then renamed) holds what was there before anything is changed, so that whoever comes can put it
back: the session itself, the watcher that it leaves on the device, the next session, `devices
clean`. The last parameters, such as `sudo -n`, go before the program that writes.
"""

from __future__ import annotations

__all__ = ["PREFIX", "RESTORE", "SET", "SURVEY", "WATCH"]

PREFIX = "prepared-"  # of a record's name; then the session's tag
_BOOT = "b=none; read -r b 2>/dev/null </proc/sys/kernel/random/boot_id"

# What there is to choose from, a line each. The kernel gives lists of cores only to who reads them
# at once (bitmap_print_to_buf, Linux 5.16 and later): a shell's `read`, byte by byte, finds none.
SURVEY = r"""LC_ALL=C; export LC_ALL
get() { [ -r "$1" ] && read -r v 2>/dev/null <"$1" && echo "$2 $v"; }
for c in /sys/devices/system/cpu/cpu[0-9]*; do
  n=${c##*/cpu}; echo "core $n"; get $c/online "online $n"; get $c/cpu_capacity "capacity $n"
  get $c/cpufreq/cpuinfo_max_freq "khz $n"
  s=$(cat $c/topology/thread_siblings_list 2>/dev/null) && echo "siblings $n $s"
done
get /sys/devices/system/cpu/isolated isolated
while read -r k v; do case $k in Cpus_allowed_list:) echo "allowed $v";; esac; done \
  2>/dev/null </proc/self/status
command -v taskset >/dev/null 2>&1 && echo taskset
exit 0"""

# $1 work folder, $2 record. Prints what became of each value. A record of another boot is only
# removed: a governor does not outlive one. What somebody else has set meanwhile is left. Exit 18:
# something could not be put back, and the record is kept.
RESTORE = (
    r"""LC_ALL=C; export LC_ALL; umask 077; cd "$1" 2>/dev/null || exit 0
rec=$2; shift 2; want=; bad=; pid=
[ -f "$rec" ] && [ ! -L "$rec" ] && [ -O "$rec" ] || exit 0
"""
    + _BOOT
    + r"""
while read -r k v w; do
  case $k in
  boot) [ "$v" = "$b" ] || { rm -f "$rec"; exit 0; }; continue;;
  want) want=$v; continue;;
  watcher) pid=$v; continue;;
  governor) ;;
  *) continue;; esac
  case $v in ''|*[!0-9]*) continue;; esac
  case $w in ''|*[!A-Za-z0-9_-]*) continue;; esac
  f=/sys/devices/system/cpu/cpu$v/cpufreq/scaling_governor
  g=; read -r g 2>/dev/null <"$f" || continue
  if [ "$g" = "$w" ]; then echo "back $v $w"
  elif [ "$g" != "$want" ]; then echo "other $v $g"
  else
    printf '%s\n' "$w" | "$@" tee "$f" >/dev/null 2>&1
    g=; read -r g 2>/dev/null <"$f"
    if [ "$g" = "$w" ]; then echo "back $v $w"; else echo "stuck $v $g"; bad=1; fi
  fi
done <"$rec"
[ -z "$bad" ] || exit 18
rm -f "$rec"
case $pid in ''|*[!0-9]*) exit 0;; esac
tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "$rec" &&
  kill -TERM "-$pid" 2>/dev/null
exit 0"""
)

# $1 work folder, $2 record, $3 the session's lease (a file), $4 seconds without a new sign of life
# in it, $5 RESTORE. Ends when the record is gone. Time is counted: no clock that jumps matters.
WATCH = r"""LC_ALL=C; export LC_ALL; cd "$1" || exit 1
rec=$2; lease=$3; silence=$4; restore=$5; shift 5; last=; n=0; tries=0
while [ -e "$rec" ]; do
  sleep 2
  if [ -e "$lease" ]; then
    s=; read -r s 2>/dev/null <"$lease-beat"
    if [ "$s" = "$last" ]; then n=$((n + 2)); else last=$s; n=0; fi
    [ $n -ge $silence ] || continue
  fi
  [ -e "$rec" ] || exit 0
  sh -c "$restore" edgeopt "$PWD" "$rec" "$@" </dev/null >/dev/null 2>&1 && exit 0
  tries=$((tries + 1)); [ $tries -lt 30 ] || exit 1
done"""

# $1 work folder, $2 record, $3 lease, $4 seconds, $5 RESTORE, $6 WATCH, $7 the governor wanted.
# First what dead sessions left is put back: whoever is here has the lease. Then all old values are
# written down, then the watcher is started, then they are changed.
SET = (
    r"""LC_ALL=C; export LC_ALL; umask 077; cd "$1" || exit 11
rec=$2; lease=$3; silence=$4; restore=$5; watch=$6; want=$7; shift 7
for e in """
    + PREFIX
    + r"""*; do
  [ -f "$e" ] && sh -c "$restore" edgeopt "$PWD" "$e" "$@" </dev/null | while read -r l; do
    echo "swept $l"; done
done
"""
    + _BOOT
    + r"""
dir=/sys/devices/system/cpu; todo=
for f in $dir/cpu[0-9]*/cpufreq/scaling_governor; do
  c=${f#$dir/cpu}; c=${c%%/*}; g=; read -r g 2>/dev/null <"$f" || continue
  if [ "$g" = "$want" ]; then echo "had $c $g"; continue; fi
  a=; read -r a 2>/dev/null <"${f%/*}/scaling_available_governors"
  case " $a " in '  '|*" $want "*) todo="$todo $c $g";; *) echo "lacks $c $g";; esac
done
[ -n "$todo" ] || exit 0
set -f
{ echo "boot $b"; echo "want $want"; echo "lease $lease"; c=; for v in $todo; do
  if [ -z "$c" ]; then c=$v; else echo "governor $c $v"; c=; fi; done
} >"tmp-$rec" && mv -f "tmp-$rec" "$rec" || { rm -f "tmp-$rec"; exit 14; }
session=; command -v setsid >/dev/null 2>&1 && session=setsid
(trap '' HUP
exec $session sh -c "$watch" edgeopt "$PWD" "$rec" "$lease" "$silence" "$restore" "$@"
) </dev/null >/dev/null 2>&1 &
[ -z "$session" ] || echo "watcher $!" >>"$rec" || exit 14
c=; for v in $todo; do
  if [ -z "$c" ]; then c=$v; continue; fi
  f=$dir/cpu$c/cpufreq/scaling_governor
  printf '%s\n' "$want" | "$@" tee "$f" >/dev/null 2>&1
  g=; read -r g 2>/dev/null <"$f"
  if [ "$g" = "$want" ]; then echo "set $c $v"; else echo "refused $c $v"; fi
  c=
done
exit 0"""
)
