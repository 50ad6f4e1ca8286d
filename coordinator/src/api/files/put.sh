# Takes a tar archive in: written aside first; what is the same already is left alone.
mkdir -p -- "$1" && cd -- "$1" || exit 1
t=$(pwd)/.longshore-files.$$
mkdir -m 700 "$t" || exit 1
trap 'chmod -R u+rwx "$t" 2>/dev/null; rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
tar -xf - -C "$t" || exit 1
cat >/dev/null
# The input also ends when its sender is lost, and a part of an archive can look whole: whoever
# sent it says by a signal that this was all.
said=
trap 'said=y' USR1
printf 'whole?\0'
n=0
while [ -z "$said" ]; do
  [ $n -lt 60 ] || exit 1
  n=$((n + 1))
  sleep 1 & wait $! 2>/dev/null
done
trap '' USR1
cd "$t" || exit 1
find . ! -name . -type d -exec sh -c 'for d; do mkdir -p "../$d" || exit 1; done' sh {} + || exit 1
find . -type f -exec sh -c 'for f; do
  [ -r "$f" ] || chmod u+r "$f"
  s=$(wc -c <"$f") || exit 1
  h=$(sha256sum <"$f" 2>/dev/null) || h=-
  h=${h%% *}
  k=copied
  if [ "$h" != - ] && [ -f "../$f" ] && [ ! -L "../$f" ] && [ "$(wc -c <"../$f")" -eq "$s" ]; then
    o=$(sha256sum <"../$f" 2>/dev/null) || o=
    [ "${o%% *}" = "$h" ] && k=same
  fi
  if [ $k = copied ]; then
    if [ -d "../$f" ]; then echo "$f: Is a directory" >&2; exit 1; fi
    mv -f "$f" "../$f" || exit 1
  fi
  printf "%s %s %s %s\0" $k $s "$h" "${f#./}"
done' sh {} + || exit 1
find . ! -type d ! -type f -exec printf 'left - - %s\0' {} +
