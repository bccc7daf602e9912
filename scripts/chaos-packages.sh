#!/usr/bin/env bash
# The Debian packages that `make chaos` uses; installed when run as root. What is missing otherwise is left out of
# the run, which says so: no test is passed for lack of a tool.
set -euo pipefail
declare -A package=([haproxy]=haproxy [nft]=nftables [ip]=iproute2 [unshare]=util-linux [faketime]=faketime)
missing=()
for program in "${!package[@]}"; do
  PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || missing+=("${package[$program]}")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  echo "set-up: installing ${missing[*]}"
  # policy-rc.d's way of saying that no service is to be started by it
  apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
  echo "set-up: for all faults, please run:  sudo apt-get install ${missing[*]}" >&2
fi
