# shellcheck shell=bash
# Output, errors, stages and the lock of ./x. Sourced by it; $logs is set there.

took() { # SECONDS -> "21 s", "2m58s"
  if (($1 < 60)); then printf '%d s' "$1"; else printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); fi
}

line() { # WORD TEXT [STATE [TIME]]
  if (($# < 3)); then
    printf '%-12s %s\n' "$1" "$2"
  elif (($# < 4)); then
    printf '%-12s %-72s %s\n' "$1" "$2" "$3"
  else
    printf '%-12s %-72s %-4s %s\n' "$1" "$2" "$3" "$4"
  fi
}

die() { # WHAT FAILED [NEXT COMMAND [EXIT CODE]]
  printf '\nx: %s\n' "$1" >&2
  if [[ -n ${2:-} ]]; then printf 'next: %s\n' "$2" >&2; fi
  exit "${3:-1}"
}

# Shows that a stage is alive: on a terminal the last line of its log and the
# time, otherwise one line every 30 seconds. FILE.broke tells the stage that its
# own line was interrupted.
tick() { # WORD LOG
  local word=$1 log=$2 start=$SECONDS now last
  while sleep 1 >/dev/null 2>&1; do
    kill -0 "$$" 2>/dev/null || return 0
    now=$((SECONDS - start))
    if [[ -t 1 ]]; then
      ((${COLUMNS:-100} >= 90)) || continue
    else
      ((now % 30 == 0 && now > 0)) || continue
      [[ -e $log.broke ]] || printf '...\n'
      : >"$log.broke"
    fi
    last=$(tail -c 2000 "$log" 2>/dev/null | tr '\r' '\n' | tr -cd '[:print:]\n' | grep -v '^ *$' | tail -n 1) || true
    if [[ -t 1 ]]; then
      printf '\r%-12s %-72.72s      %s ' "$word" "$last" "$(took "$now")"
    else
      printf '%-12s   %-70.70s      %s\n' "$word" "$last" "$(took "$now")"
    fi
  done
}

ticker=
stop_ticker() {
  if [[ -n $ticker ]]; then
    kill "$ticker" 2>/dev/null || true
    wait "$ticker" 2>/dev/null || true
    ticker=
  fi
}
trap stop_ticker EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Runs a command with its output in .x/log/NAME.log and prints one line for it.
# A failure shows the end of the log and is returned.
stage() { # NAME WORD TEXT COMMAND...
  local log=$logs/$1.log word=$2 text=$3 rc=0 start=$SECONDS erase=''
  shift 3
  rm -f "$log" "$log.broke"
  printf '%-12s %-72s ' "$word" "$text"
  tick "$word" "$log" 9>&- &
  ticker=$!
  ("$@") >"$log" 2>&1 </dev/null 9>&- || rc=$?
  stop_ticker
  if [[ -t 1 ]]; then
    erase=$'\e[K' # the rest of the progress shown last
    printf '\r%-12s %-72s ' "$word" "$text"
  elif [[ -e $log.broke ]]; then
    printf '%-12s %-72s ' "$word" "$text"
  fi
  rm -f "$log.broke"
  if ((rc == 0)); then
    printf '%-4s %s%s\n' ok "$(took $((SECONDS - start)))" "$erase"
    return 0
  fi
  printf 'FAILED after %s (exit %d)%s\n' "$(took $((SECONDS - start)))" "$rc" "$erase"
  tail -n 60 "$log" | sed 's/^/  | /'
  printf '  the whole log: %s\n' "$log"
  return "$rc"
}

# One of up, down, test at a time in one checkout. Descriptor 9 is closed for
# every child, so nothing started from here can hold the lock longer.
lock() { # VERB
  exec 9>>.x/lock
  if ! flock -n 9; then
    die "another ./x is at work in this checkout (process $(cat .x/lock 2>/dev/null || echo unknown))" \
      "wait for it, then ./x $1 again"
  fi
  printf '%s, ./x %s\n' "$$" "$1" >.x/lock
}

# Number of edits between two words, for "did you mean".
edits() {
  local a=$1 b=$2 i j cost up left diag prev=() row=()
  for ((j = 0; j <= ${#b}; j++)); do prev[j]=$j; done
  for ((i = 1; i <= ${#a}; i++)); do
    row=("$i")
    for ((j = 1; j <= ${#b}; j++)); do
      cost=1
      if [[ ${a:i-1:1} == "${b:j-1:1}" ]]; then cost=0; fi
      up=$((prev[j] + 1)) left=$((row[j - 1] + 1)) diag=$((prev[j - 1] + cost))
      row[j]=$((up < left ? up : left))
      ((row[j] <= diag)) || row[j]=$diag
    done
    prev=("${row[@]}")
  done
  printf '%d' "${prev[${#b}]}"
}
