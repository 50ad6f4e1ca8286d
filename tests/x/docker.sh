# shellcheck shell=bash
# The container engine and the tiny first image.

engine_version() { timeout 20 docker version --format '{{.Server.Version}}' 2>/dev/null; }
# For a machine with an engine and no client yet.
engine_listens() { curl -sf -o /dev/null --max-time 5 --unix-socket /var/run/docker.sock http://localhost/_ping 2>/dev/null; }
engine_ready() { [[ -n $(engine_version) ]]; }

# Starts an engine as a plain process. The environment is clean because dockerd
# copies its own into the hooks of GPU containers.
start_dockerd() { # [ARGUMENT...]
  local pid i log=$PWD/.x/dockerd.log
  : >"$log"
  as_root env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    setsid dockerd "$@" >>"$log" 2>&1 </dev/null &
  pid=$!
  for ((i = 1; i <= 60; i++)); do
    sleep 1
    if engine_ready; then return 0; fi
    # Root may already have the engine while this user may not reach it.
    if [[ -S /var/run/docker.sock && ! -w /var/run/docker.sock ]]; then return 0; fi
    if [[ ! -d /proc/$pid ]]; then
      printf 'dockerd%s ended by itself; the end of %s:\n' "${*:+ $*}" "$log"
      tail -n 25 "$log"
      return 1
    fi
    printf 'waiting for the engine (%d of 60 s): %s\n' "$i" "$(tail -n 1 "$log" | sed 's/.*msg=//')"
  done
  printf 'dockerd%s does not answer after 60 s; the end of %s:\n' "${*:+ $*}" "$log"
  tail -n 25 "$log"
  as_root kill "$pid" # the one started above
  for ((i = 0; i < 15; i++)); do
    [[ -d /proc/$pid ]] || break
    sleep 1
  done
  return 1
}

start_engine() {
  if [[ -d /run/systemd/system ]]; then
    as_root systemctl start docker && return 0
    as_root journalctl -u docker -n 25 --no-pager
    return 1
  fi
  start_dockerd && return 0
  grep -qiE 'overlay|graphdriver|storage.driver' .x/dockerd.log || return 1
  printf 'once more with the storage driver vfs\n'
  start_dockerd --storage-driver vfs
}

require_engine() {
  if ! engine_ready; then
    [[ -z ${DOCKER_HOST:-} ]] || die "no engine answers at DOCKER_HOST=$DOCKER_HOST" "docker version"
    if [[ ! -S /var/run/docker.sock || -w /var/run/docker.sock ]]; then
      require engine
      get_root "starting Docker"
      stage docker docker "starting the engine" start_engine ||
        die "Docker does not start" "see .x/dockerd.log or journalctl -u docker; then ./x again"
    fi
    engine_ready || die "Docker runs, but ${USER:-this user} may not use it" \
      "sudo usermod -aG docker ${USER:-\$USER}, sign in again, then ./x again"
  fi
}

# A busybox that needs no library, or failure.
static_busybox() {
  local f
  for f in /bin/busybox /usr/bin/busybox-static /usr/bin/busybox.static /usr/lib/initcpio/busybox "$(command -v busybox)"; do
    if [[ -x $f ]] && ! ldd "$f" 2>/dev/null | grep -q '=>'; then
      printf '%s' "$f"
      return 0
    fi
  done
  return 1
}

# Made on the spot, so a first session needs no registry.
make_base_image() { # BUSYBOX TAG
  local root applet
  root=$(mktemp -d .x/base.XXXXXX) || return 1
  (
    set -e
    chmod 755 "$root" # mktemp makes 0700, and this becomes the mode of /
    cd "$root"
    umask 022
    mkdir -p bin dev etc home mnt proc run sys tmp usr var/tmp
    mkdir -m 700 root
    chmod 1777 tmp var/tmp
    ln -s bin sbin
    ln -s ../bin usr/bin
    ln -s ../bin usr/sbin
    install -m 755 "$1" bin/busybox
    for applet in $("$1" --list); do
      [[ $applet == busybox ]] || ln -s busybox "bin/$applet"
    done
    test -e bin/sh
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >etc/passwd
    printf 'root:x:0:\ntty:x:5:\nnogroup:x:65534:\n' >etc/group
    printf 'passwd: files\ngroup: files\nhosts: files dns\n' >etc/nsswitch.conf
  )
  local rc=$?
  if ((rc == 0)); then
    tar -C "$root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -c . |
      docker import -c 'ENV PATH=/bin' -c 'CMD ["/bin/sh"]' - "longshore/base:$2" &&
      docker tag "longshore/base:$2" longshore/base:latest || rc=1
  fi
  rm -rf "$root"
  return "$rc"
}

image_id() { docker image inspect --format '{{.Id}}' "$1" 2>/dev/null; }

# longshore/base:latest; its second tag names the recipe and the program in it.
require_base_image() {
  local busybox tag id
  busybox=$(static_busybox) || die "no static busybox here" "install busybox-static, then ./x again"
  tag=$(cat "$busybox" tests/x/docker.sh | sha256sum | cut -c 1-12)
  if id=$(image_id "longshore/base:$tag"); then
    [[ $(image_id longshore/base:latest) == "$id" ]] || docker tag "longshore/base:$tag" longshore/base:latest
    return 0
  fi
  stage image image "longshore/base:latest, from $busybox" make_base_image "$busybox" "$tag" ||
    die "the base image could not be made" "docker version; then ./x again"
}
