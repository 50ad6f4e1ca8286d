# Lists a folder, or one path: raw mode in hex, size, time, hash, name, a zero byte.
p=$1
show() {
  m=$(stat -c '%f %s %Y' -- "$1") || return 0
  h=-
  if [ "$2" = y ] && [ -f "$1" ] && [ ! -L "$1" ]; then
    h=$(sha256sum <"$1" 2>/dev/null) || h=-
  fi
  printf '%s %s %s\0' "$m" "${h%% *}" "$3"
}
if [ -d "$p" ]; then
  cd -- "$p" || exit 1
  printf 'dir\0'
  for f in * .[!.]* ..?*; do
    if [ -e "$f" ] || [ -L "$f" ]; then show "./$f" "$2" "$f"; fi
  done
elif [ -e "$p" ] || [ -L "$p" ]; then
  printf 'one\0'
  show "$p" "$2" "${p##*/}"
else
  echo "$p: No such file or directory" >&2
  exit 1
fi
