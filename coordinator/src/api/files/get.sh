# Writes a path as a tar archive.
p=$1
while [ "${p%/}" != "$p" ] && [ "$p" != / ]; do p=${p%/}; done
if [ ! -e "$p" ] && [ ! -L "$p" ]; then echo "$p: No such file or directory" >&2; exit 1; fi
case $p in
  /|.) exec tar -cf - -C "$p" . ;;
  */*) d=${p%/*}; exec tar -cf - -C "${d:-/}" "./${p##*/}" ;;
  *) exec tar -cf - "./$p" ;;
esac
