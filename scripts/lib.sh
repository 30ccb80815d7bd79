# shellcheck shell=bash
# What the scripts share: packages, the build, and hosts made of network namespaces. Source it.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export DEBIAN_FRONTEND=noninteractive
# What the scripts unpack or build for themselves goes here, not into the system.
TOOLS=$ROOT/target/tools
PATH=$PATH:/usr/sbin:/sbin:$TOOLS/usr/sbin:$TOOLS/bin

# shellcheck disable=SC2034 # used by the scripts that source this
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  BOLD=$'\e[1m' GREEN=$'\e[32m' RED=$'\e[31m' YELLOW=$'\e[33m' PLAIN=$'\e[0m'
else
  BOLD='' GREEN='' RED='' YELLOW='' PLAIN=''
fi

say() { printf '%s\n' "$*"; }
title() { printf '\n%s%s%s\n' "$BOLD" "$*" "$PLAIN"; }
die() {
  printf '%serror:%s %s\n' "$RED" "$PLAIN" "$*" >&2
  exit 1
}

is_root() { [ "$(id -u)" = 0 ]; }

# The person who typed `sudo` owns target/ and has Rust; root may have neither.
owner() {
  if is_root && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then echo "$SUDO_USER"; fi
}

# Runs a command as that person, with their Rust.
as_owner() {
  local user home
  user=$(owner)
  if [ -z "$user" ]; then
    "$@"
  else
    home=$(getent passwd "$user" | cut -d: -f6)
    runuser -u "$user" -- env HOME="$home" USER="$user" LOGNAME="$user" \
      PATH="$home/.cargo/bin:$PATH" "$@"
  fi
}

# packages_of COMMAND:PACKAGE... prints the packages whose command is not there.
packages_of() {
  local pair
  for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || echo "${pair##*:}"
  done | sort -u
}

APT_UPDATED=
apt_update() {
  [ -n "$APT_UPDATED" ] && return 0
  say "apt-get update"
  apt-get -qq update </dev/null || say "${YELLOW}apt-get update failed; going on with the lists at hand$PLAIN"
  APT_UPDATED=1
}

apt_install() {
  command -v apt-get >/dev/null 2>&1 ||
    die "these Debian packages are missing and there is no apt-get here: $*"
  is_root || die "these Debian packages are missing: $*. Run: sudo apt-get install $*"
  apt_update
  say "apt-get install $*"
  apt-get -qq install -y --no-install-recommends "$@" </dev/null >/dev/null ||
    die "apt-get could not install: $*"
}

# need COMMAND:PACKAGE... installs what is missing.
need() {
  local missing
  mapfile -t missing < <(packages_of "$@")
  if [ ${#missing[@]} -gt 0 ]; then apt_install "${missing[@]}"; fi
}

# Prints those of the packages that are not installed; apt-get would upgrade the others.
not_installed() {
  local package
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
  done
}

# FTP servers are unpacked under target/ and not installed: installing their packages would start
# an FTP server on this machine, now and at each boot, and they exclude each other.
#
# need_unpacked COMMAND PACKAGE...
need_unpacked() {
  local program=$1 dir package libraries
  shift
  command -v "$program" >/dev/null 2>&1 && return 0
  is_root || die "$program is missing. Run this script with sudo once"
  need dpkg-deb:dpkg
  apt_update
  say "unpacking $* into target/tools (not installed: no FTP server starts on this machine)"
  dir=$(mktemp -d)
  chmod 755 "$dir"
  as_owner mkdir -p "$TOOLS"
  libraries=()
  for package in "$@"; do
    # What is in target/ belongs to its owner, not to root.
    if ! { (cd "$dir" && apt-get -qq download "$package" </dev/null 2>/dev/null) &&
      dpkg-deb --fsys-tarfile "$dir/$package"_*.deb |
      as_owner tar -x --no-same-owner --overwrite -C "$TOOLS"; }; then
      rm -r "$dir"
      die "$package could not be downloaded or unpacked"
    fi
    mapfile -t -O "${#libraries[@]}" libraries < <(dpkg-deb -f "$dir/$package"_*.deb Depends |
      tr ',' '\n' | sed -n 's/^ *\(lib[^ (|]*\).*/\1/p' | grep -v pam-)
  done
  rm -r "$dir"
  mapfile -t libraries < <(not_installed "${libraries[@]}" | sort -u)
  if [ ${#libraries[@]} -gt 0 ]; then apt_install "${libraries[@]}"; fi
  hash -r
  command -v "$program" >/dev/null 2>&1 || die "$* unpacked into $TOOLS, yet no $program is there"
}

need_vsftpd() { need_unpacked vsftpd vsftpd; }
# With its TLS module.
need_proftpd() { need_unpacked proftpd proftpd-core proftpd-mod-crypto; }

# What the end-to-end tests use.
need_for_e2e() {
  need ip:iproute2 sysctl:procps nft:nftables ethtool:ethtool tcpdump:tcpdump curl:curl \
    lftp:lftp python3:python3 iperf3:iperf3 ping:iputils-ping openssl:openssl
  if ! /usr/bin/python3 -c 'import pyftpdlib' 2>/dev/null; then
    apt_install python3 python3-pyftpdlib
  fi
  need_vsftpd
  need_proftpd
}

# run_e2e NAME... runs those end-to-end tests with the release build, and shows what they say.
run_e2e() {
  local target=${CARGO_TARGET_DIR:-$ROOT/target} program
  is_root || die "this makes network namespaces, and only root may. Run it with sudo"
  need_for_e2e
  need_namespaces
  need_lotus
  say "cargo build --release --locked --examples"
  (cd "$ROOT" && as_owner cargo build --release --locked --examples) || die "the build failed"
  # LOTUS may be another one; the traffic generators are ours.
  export LOTUS LOTUS_E2E_GENERATORS=$target/release/examples LOTUS_REQUIRE_ROOT=1
  say "cargo test --locked --no-run --test e2e"
  program=$(cd "$ROOT" && as_owner cargo test --locked --no-run --test e2e 2>&1 |
    sed -n 's/^ *Executable .* (\(.*\))$/\1/p')
  [ -n "$program" ] || die "the build of the tests failed; see: cargo test --no-run --test e2e"
  (cd "$ROOT" && CARGO_MANIFEST_DIR=$ROOT "$program" --test-threads=1 "$@")
}

need_rust() {
  as_owner bash -c 'command -v cargo' >/dev/null 2>&1 ||
    die "cargo is not there. Install Rust (https://rustup.rs) and run this again"
  # mimalloc is C; rustc links with cc.
  need cc:gcc
  if [ ! -e /usr/include/stdlib.h ]; then apt_install libc6-dev; fi
}

# Sets LOTUS to the release binary, built now; an already set LOTUS is taken as it is.
need_lotus() {
  if [ -z "${LOTUS:-}" ]; then
    need_rust
    say "cargo build --release --locked"
    (cd "$ROOT" && as_owner cargo build --release --locked --bin lotus) || die "the build failed"
    LOTUS=${CARGO_TARGET_DIR:-$ROOT/target}/release/lotus
  fi
  [ -x "$LOTUS" ] || die "no lotus at $LOTUS"
}

# need_generator NAME... builds those programs of benches/gen; sets GENERATORS to their folder.
need_generator() {
  local name
  need_rust
  for name in "$@"; do
    say "cargo build --release --locked --example $name"
    (cd "$ROOT" && as_owner cargo build --release --locked --example "$name") || die "the build failed"
  done
  # shellcheck disable=SC2034 # used by the scripts that source this
  GENERATORS=${CARGO_TARGET_DIR:-$ROOT/target}/release/examples
}

need_namespaces() {
  local probe=lotus-probe-$$
  ip netns add "$probe" 2>/dev/null ||
    die "can't make a network namespace here (in a container? it must be a privileged one)"
  ip netns del "$probe"
}

# --- three hosts: client, firewall, server -----------------------------------------------------
#
#   client0 (client) --- to-client (firewall) to-server --- server0 (server)
#
# The firewall has no address. Addresses are from the ranges for documentation (RFC 5737, 3849).

# shellcheck disable=SC2034 # used by the scripts that source this
CLIENT4=192.0.2.10 SERVER4=192.0.2.20 CLIENT6=2001:db8::10 SERVER6=2001:db8::20

# hosts_up PREFIX sets CLIENT, FIREWALL, SERVER to the names of the namespaces.
hosts_up() {
  local host
  CLIENT=$1-client FIREWALL=$1-firewall SERVER=$1-server
  HOSTS=("$CLIENT" "$FIREWALL" "$SERVER")
  for host in "${HOSTS[@]}"; do
    ip netns add "$host"
    ip -n "$host" link set lo up
  done
  ip -n "$CLIENT" link add client0 type veth peer name to-client netns "$FIREWALL"
  ip -n "$SERVER" link add server0 type veth peer name to-server netns "$FIREWALL"
  for host in to-client to-server; do
    ip netns exec "$FIREWALL" sysctl -qw "net.ipv6.conf.$host.disable_ipv6=1"
    ip -n "$FIREWALL" link set "$host" up
  done
  host_up "$CLIENT" client0 "$CLIENT4" "$CLIENT6"
  host_up "$SERVER" server0 "$SERVER4" "$SERVER6"
}

host_up() { # NAMESPACE INTERFACE IPV4 IPV6
  ip -n "$1" addr add "$3/24" dev "$2"
  ip -n "$1" addr add "$4/64" dev "$2" nodad
  ip -n "$1" link set "$2" up
}

# Ends every process in the namespaces, and only those, by their PIDs; then the namespaces.
hosts_down() {
  local host pid
  for host in "${HOSTS[@]:-}"; do
    if [ ! -e "/run/netns/${host:-none}" ]; then continue; fi
    for pid in $(ip netns pids "$host"); do kill "$pid" 2>/dev/null || true; done
    for _ in $(seq 30); do
      [ -n "$(ip netns pids "$host")" ] || break
      sleep 0.1
    done
    for pid in $(ip netns pids "$host"); do kill -9 "$pid" 2>/dev/null || true; done
    ip netns del "$host" || true
  done
  HOSTS=()
}

on() { # NAMESPACE COMMAND...
  ip netns exec "$@"
}

# lotus_up LOG ARGUMENT... starts lotus in the firewall and waits until it is ready.
lotus_up() {
  local log=$1
  shift
  ip netns exec "$FIREWALL" "$LOTUS" run "$@" </dev/null >"$log" 2>&1 &
  LOTUS_PID=$!
  for _ in $(seq 100); do
    grep -qi ready "$log" && return 0
    kill -0 "$LOTUS_PID" 2>/dev/null || break
    sleep 0.1
  done
  sed 's/^/  lotus: /' "$log" >&2
  die "lotus did not get ready: $LOTUS run $*"
}

# Stops lotus as Ctrl-C does; it must end cleanly.
lotus_down() {
  local code=0
  kill -INT "$LOTUS_PID"
  wait "$LOTUS_PID" || code=$?
  LOTUS_PID=
  [ "$code" = 0 ] || die "lotus ended with exit code $code"
}
