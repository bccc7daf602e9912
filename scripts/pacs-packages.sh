#!/usr/bin/env bash
# Installs Orthanc and its DICOMweb plugin from Debian's packages when run as root; otherwise prints what to type.
# The tests start their own Orthanc; the service that the package starts is switched off again if it was not there.
set -euo pipefail
plugin=/usr/share/orthanc/plugins/libOrthancDicomWeb.so

command -v Orthanc >/dev/null && [ -e $plugin ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "set-up: the PACS for the tests is missing; please run:  sudo apt-get install orthanc orthanc-dicomweb" >&2
  exit 1
fi
was_there=$(command -v Orthanc || true)
echo "set-up: installing orthanc orthanc-dicomweb"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends orthanc orthanc-dicomweb >/dev/null
if [ -z "$was_there" ] && [ -d /run/systemd/system ]; then
  systemctl disable --now --quiet orthanc
fi
