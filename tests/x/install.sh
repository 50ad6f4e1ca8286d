# shellcheck shell=bash
# What ./x installs: packages of the distribution, a Rust toolchain, cargo-nextest.

package_manager() {
  local m
  for m in apt-get dnf zypper pacman; do
    if command -v "$m" >/dev/null; then
      printf '%s' "$m"
      return
    fi
  done
}

# The packages of one need; nothing where the distribution has none that we know.
packages_for() { # NEED
  local apt dnf zypper pacman
  case $1 in
    compiler) apt='gcc libc6-dev' dnf=gcc zypper=gcc pacman=gcc ;;
    engine) apt=docker.io dnf=moby-engine zypper=docker pacman=docker ;;
    docker-cli) apt=docker-cli dnf=docker-cli zypper=docker pacman=docker ;;
    busybox) apt=busybox-static dnf=busybox zypper=busybox-static pacman=busybox ;;
    iproute) apt=iproute2 dnf=iproute zypper=iproute2 pacman=iproute2 ;;
    iptables) apt=iptables dnf=iptables zypper=iptables pacman=iptables ;;
    python) apt='python3 python3-venv python3-pip' dnf='python3 python3-pip' zypper='python3 python3-pip' pacman='python python-pip' ;;
    registry) apt=docker-registry dnf=docker-distribution zypper=distribution-registry pacman= ;;
    ssh) apt=openssh-client dnf=openssh-clients zypper=openssh-clients pacman=openssh ;;
    htpasswd) apt=apache2-utils dnf=httpd-tools zypper=apache2-utils pacman=apache ;;
    curl) apt='curl ca-certificates' dnf=curl zypper=curl pacman=curl ;;
    rustup) apt=rustup dnf=rustup zypper=rustup pacman=rustup ;;
    *) die "tests/x/install.sh: unknown need $1" ;;
  esac
  case $manager in
    apt-get) printf '%s' "$apt" ;;
    dnf) printf '%s' "$dnf" ;;
    zypper) printf '%s' "$zypper" ;;
    pacman) printf '%s' "$pacman" ;;
  esac
}

present() { # NEED
  case $1 in
    compiler) printf '#include <stdio.h>\nint main(void){return 0;}\n' | cc -x c - -o /dev/null 2>/dev/null ;;
    engine) command -v dockerd >/dev/null || [[ -n ${DOCKER_HOST:-} ]] || engine_listens ;;
    docker-cli) command -v docker >/dev/null ;;
    busybox) static_busybox >/dev/null ;;
    iproute) command -v ip >/dev/null ;;
    iptables) command -v iptables >/dev/null ;;
    python) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
    registry) command -v docker-registry >/dev/null || command -v registry >/dev/null ;;
    ssh) command -v ssh >/dev/null && command -v ssh-keygen >/dev/null ;;
    htpasswd) command -v htpasswd >/dev/null ;;
    curl) command -v curl >/dev/null ;;
    rustup) command -v rustup >/dev/null || command -v rustup-init >/dev/null ;;
  esac
}

as_root() {
  if ((EUID == 0)); then "$@"; else sudo -n "$@"; fi
}

# Asks for the password while the terminal is free; the stages use `sudo -n`.
get_root() { # WHAT FOR
  ((EUID == 0)) && return
  command -v sudo >/dev/null || die "$1 needs root, and there is no sudo" "run ./x as root"
  sudo -n true 2>/dev/null && return
  [[ -t 0 ]] || die "$1 needs root, and there is no terminal to ask for a password" "run ./x as root"
  printf '\n'
  sudo -v || die "$1 needs root"
}

package_known() { # apt only: has the package a version to install?
  apt-cache policy "$1" 2>/dev/null | grep -q '^ *Candidate: [^(]'
}

update_lists() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q -o DPkg::Lock::Timeout=300
}

# A machine as it comes may have no package lists, and answers nothing before it has.
first_lists() {
  [[ $manager == apt-get ]] || return 0
  ! compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null || return 0
  get_root "reading the package lists"
  stage lists installing "package lists (apt-get update)" update_lists ||
    die "the package lists could not be read" "sudo apt-get update"
}

install_packages() { # PACKAGE...
  # Without systemd, RUNLEVEL=1 keeps packages from starting their services
  # with our environment: ./x starts Docker itself.
  local level=()
  [[ -d /run/systemd/system ]] || level=(RUNLEVEL=1)
  case $manager in
    apt-get)
      local install=(as_root env DEBIAN_FRONTEND=noninteractive "${level[@]}" apt-get install -y -q
        --no-install-recommends --no-remove -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@")
      local p known=1
      for p in "$@"; do package_known "$p" || known=0; done
      if ((known)) && "${install[@]}"; then return 0; fi
      update_lists && "${install[@]}"
      ;;
    dnf) as_root dnf install -y --setopt=install_weak_deps=False "$@" ;;
    zypper) as_root zypper --non-interactive install --no-recommends "$@" ;;
    pacman) as_root pacman -S --needed --noconfirm "$@" ;;
  esac
}

install_command() { # PACKAGE...
  case $manager in
    apt-get) printf 'sudo apt-get update && sudo apt-get install --no-install-recommends --no-remove %s' "$*" ;;
    dnf) printf 'sudo dnf install %s' "$*" ;;
    zypper) printf 'sudo zypper install %s' "$*" ;;
    pacman) printf 'sudo pacman -S %s' "$*" ;;
  esac
}

# Installs what is missing of the needs named, after showing the list.
require() { # NEED...
  local need missing=() packages=() names p asks='' had_registry=0
  for need in "$@"; do present "$need" || missing+=("$need"); done
  ((${#missing[@]} > 0)) || return 0
  manager=$(package_manager)
  [[ -n $manager ]] || die "missing: ${missing[*]}; and none of apt-get, dnf, zypper, pacman is here" \
    "install these, then ./x again"
  first_lists
  for need in "${missing[@]}"; do
    names=$(packages_for "$need")
    # In Debian 12 docker.io holds the client; in Debian 13 it is a package of its own.
    if [[ $manager == apt-get && $need == docker-cli ]] && ! package_known docker-cli; then names=docker.io; fi
    [[ -n $names ]] || die "$need is missing and this distribution has no package of it that ./x knows" \
      "install it, then ./x again"
    for p in $names; do
      [[ " ${packages[*]:-} " == *" $p "* ]] || packages+=("$p")
    done
  done
  ((EUID == 0)) || asks=', asks for your password'
  if [[ -n $asks ]] && ! sudo -n true 2>/dev/null; then
    line installing "${packages[*]} ($manager$asks)"
    get_root "installing ${packages[*]}"
  fi
  present registry && had_registry=1
  stage install installing "${packages[*]} ($manager)" install_packages "${packages[@]}" ||
    die "these packages could not be installed: ${packages[*]}" "$(install_command "${packages[@]}")"
  hash -r
  # Debian starts a registry on port 5000 with the package; the tests start their own.
  if ((!had_registry)) && [[ -d /run/systemd/system ]] && present registry; then
    as_root systemctl disable --now docker-registry >/dev/null 2>&1 || true
  fi
  for need in "${missing[@]}"; do
    present "$need" || die "$need is still missing after installing ${packages[*]}" "install it, then ./x again"
  done
}

# An sshd for an image of the tests, unpacked beside the tools: installed it would listen here.
require_sshd() {
  local into=.x/tools/sshd
  [[ ! -x /usr/sbin/sshd && ! -x $into/usr/sbin/sshd ]] || return 0
  manager=$(package_manager)
  [[ $manager == apt-get ]] ||
    die "sshd is missing, which a test puts into an image" "install openssh-server, then ./x again"
  first_lists
  stage sshd unpacking "openssh-server, for an image" unpack_packages "$into" \
    openssh-server libwrap0 libnsl2 libtirpc3 ||
    die "openssh-server could not be unpacked" "apt-get download openssh-server"
}

unpack_packages() { # INTO PACKAGE...
  local into=$1 apart f
  shift
  apart=$(mktemp -d)
  (cd "$apart" && { apt-get download -q "$@" || { update_lists && apt-get download -q "$@"; }; }) || return
  rm -rf "$into.new"
  mkdir -p "$into.new"
  for f in "$apart"/*.deb; do dpkg-deb -x "$f" "$into.new" || return; done
  rm -rf "$apart" "$into"
  mv "$into.new" "$into"
}

rust_minimum() { sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml; }
rust_channel() { sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml; }

rust_fits() {
  local have
  have=$(RUSTUP_AUTO_INSTALL=0 cargo --version 2>/dev/null | cut -d ' ' -f 2) || return 1
  [[ -n $have && $(printf '%s\n%s\n' "$(rust_minimum)" "$have" | sort -V | head -n 1) == "$(rust_minimum)" ]]
}

# Fetched to a file first: a download cut short must not be run.
fetch_rustup() {
  curl --proto '=https' --tlsv1.2 -sSf -o .x/rustup-init.sh https://sh.rustup.rs &&
    sh .x/rustup-init.sh -y --no-modify-path --profile minimal --default-toolchain none
}

# A cargo new enough for the workspace, from rustup where the one found is not.
require_rust() { # [COMPONENT...]
  local component missing=0 answer by_hand="install rustup (https://rustup.rs), then ./x again"
  rust_fits || missing=1
  for component in "$@"; do cargo "$component" --version >/dev/null 2>&1 || missing=1; done
  ((missing)) || return 0
  if ! command -v rustup >/dev/null; then
    manager=$(package_manager)
    first_lists
    if [[ -n $manager && $manager != apt-get ]] || package_known rustup; then
      require rustup
    else
      [[ -t 0 ]] || die "no Rust $(rust_minimum) or newer here, and no package of rustup" "$by_hand"
      printf 'Rust %s or newer is missing. Fetch rustup from https://rustup.rs into ~/.cargo? [y/N] ' "$(rust_minimum)"
      read -r answer
      [[ $answer == [yY]* ]] || die "no Rust $(rust_minimum) or newer here" "$by_hand"
      require curl
      stage rustup installing "rustup (https://rustup.rs, into ~/.cargo)" fetch_rustup ||
        die "rustup could not be fetched" "$by_hand"
    fi
    if ! command -v rustup >/dev/null && command -v rustup-init >/dev/null; then
      stage rustup installing "rustup (into ~/.cargo)" rustup-init -y --no-modify-path --profile minimal --default-toolchain none ||
        die "rustup-init failed" "$by_hand"
    fi
    export PATH=$HOME/.cargo/bin:$PATH
    hash -r
  fi
  stage toolchain toolchain "Rust $(rust_channel) (rustup)" \
    rustup toolchain install "$(rust_channel)" --profile minimal -c rustfmt -c clippy ||
    die "the Rust toolchain could not be installed" "rustup toolchain install $(rust_channel)"
  rust_fits || die "$(command -v cargo) is older than Rust $(rust_minimum), and comes before rustup's" \
    "put ~/.cargo/bin first in PATH, then ./x again"
}

require_nextest() {
  cargo nextest --version >/dev/null 2>&1 && return
  stage nextest installing "cargo-nextest (cargo, into .x/tools)" \
    cargo install cargo-nextest --locked --root .x/tools ||
    die "cargo-nextest could not be built" "cargo install cargo-nextest --locked"
}
