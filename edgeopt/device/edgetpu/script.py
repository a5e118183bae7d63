"""The sh script that reads what a board says about its Edge TPU; nothing is opened.

POSIX sh, no Python: it answers on a board where nothing runs yet. $1 is a folder in front of every
path, for a board whose file system is mounted elsewhere; "" is the running system. It prints
`section.index.key=value` lines.
"""

from __future__ import annotations

__all__ = ["SCRIPT"]

# USB: 1a6e:089a before first use, 18d1:9302 once the firmware is loaded. PCIe: 1ac1:089a, whose
# driver (apex, on gasket) has `temp` and the trip points in thousandths of a degree as attributes:
# apex_driver.c of github.com/google/gasket-driver.
SCRIPT = r"""LC_ALL=C; export LC_ALL; R=$1
get() { [ -r "$1" ] && read -r v <"$1" 2>/dev/null && echo "$2=$v"; }
node() {
  a=no; [ -e "$1" ] || a=absent; [ -r "$1" ] && [ -w "$1" ] && a=yes
  echo "$2.node=${1#"$R"}"; echo "$2.access=$a"
  k=$2; set -- $(ls -ldL "$1" 2>/dev/null); [ $# -gt 4 ] && echo "$k.rights=$1 $3 $4"
}
some=
for n in "$R"/dev/apex_* "$R"/sys/class/apex/apex_*; do
  [ -e "$n" ] || continue; n=${n##*_}; case " $some " in *" $n "*) continue;; esac; some="$some $n"
  node "$R/dev/apex_$n" "apex.$n"; s=$R/sys/class/apex/apex_$n
  for f in temp trip_point0_temp trip_point1_temp trip_point2_temp hw_temp_warn2 \
    hw_temp_warn2_en temp_poll_interval status; do get "$s/$f" "apex.$n.$f"; done
done
for d in "$R"/sys/bus/usb/devices/*; do [ -r "$d/idVendor" ] || continue
  read -r v <"$d/idVendor"; read -r p <"$d/idProduct"
  case $v:$p in 1a6e:089a|18d1:9302) ;; *) continue;; esac
  read -r b <"$d/busnum"; read -r n <"$d/devnum"; i=${d##*/}; some="$some $i"
  i=$(printf '%s' "$i" | tr . _); echo "usb.$i.id=$v:$p"; get "$d/speed" "usb.$i.speed"
  node "$R$(printf '/dev/bus/usb/%03d/%03d' "$b" "$n")" "usb.$i"
done
for d in "$R"/sys/bus/pci/devices/*; do [ -r "$d/vendor" ] || continue
  read -r v <"$d/vendor"; [ "$v" = 0x1ac1 ] || continue; i=$(echo "${d##*/}" | tr . _)
  l=$(readlink "$d/driver" 2>/dev/null); echo "pci.$i.driver=${l##*/}"
done
for m in apex gasket; do d=$R/sys/module/$m; [ -d "$d" ] || continue
  echo "module.$m.loaded=yes"; get "$d/version" "module.$m.version"; done
echo "user.0.name=$(id -un 2>/dev/null || id -u)"; echo "user.0.groups=$(id -Gn 2>/dev/null)"
echo "kernel.0.release=$(uname -r)"; echo "kernel.0.system=$(uname -s)"
pkg() { command -v dpkg-query >/dev/null 2>&1 || return 1
  if [ -n "$R" ]; then dpkg-query --admindir="$R/var/lib/dpkg" "$@" 2>/dev/null
  else dpkg-query "$@" 2>/dev/null; fi; }
pkg -W -f '${db:Status-Abbrev} ${Package} ${Version}\n' 'libedgetpu1-*' 'gasket-dkms' |
  while read -r s p v; do [ "$s" = ii ] && echo "package.$p.version=$v"; done
lib=
look() { [ -z "$lib" ] && [ -f "$1/libedgetpu.so.1" ] && lib=$1/libedgetpu.so.1; }
IFS=:; for d in $LD_LIBRARY_PATH; do [ -n "$d" ] && look "$R$d"; done; unset IFS
for c in ldconfig /sbin/ldconfig /usr/sbin/ldconfig; do
  [ -z "$lib" ] && [ -z "$R" ] && command -v "$c" >/dev/null 2>&1 || continue
  l=$("$c" -p 2>/dev/null | sed -n 's/^[[:space:]]*libedgetpu\.so\.1 .*=> //p' | head -n 1)
  [ -n "$l" ] && [ -f "$l" ] && lib=$l
done
for d in "$R"/lib/*-linux-gnu* "$R"/usr/lib/*-linux-gnu* "$R/lib" "$R/usr/lib"; do look "$d"; done
if [ -n "$lib" ]; then
  echo "library.0.path=${lib#"$R"}"; r=$(readlink -f "$lib" 2>/dev/null); r=${r:-$lib}
  l=${r#"$R"}; o=$(pkg -S "$l" || pkg -S "${l#/usr}"); o=${o%%:*}
  [ -n "$o" ] && echo "library.0.owner=$o"
  echo "library.0.label=$(grep -a -o 'COMPILER=[ -~]*TIME=[ -~]*' "$r" 2>/dev/null | head -n 1)"
  echo "library.0.stand_in=$(grep -a -o 'EDGEOPT STAND-IN[ -~]*' "$r" 2>/dev/null | head -n 1)"
fi
[ -n "$some" ] || exit 0
# Who has a node open: the folders and links of /proc that this user may read.
ls -l "$R"/proc/[0-9]*/fd /proc/self/fd 2>/dev/null | sed -n -e '/\/fd:$/{s/\/fd:$//;s/.*\///;h;}' \
  -e '/-> \/dev\/apex_/{G;p;}' -e '/-> \/dev\/bus\/usb\//{G;p;}' |
  while read -r l && read -r p; do
    echo "holder.$p.node=${l##*-> }"; get "$R/proc/$p/comm" "holder.$p.name"; done
exit 0
"""
