#!/usr/bin/env bash
# Checks the few shared libraries that the embedded Triton server loads, and installs the missing ones from
# Debian's packages when run as root. Otherwise it prints the command to type. A C compiler, for core's kernels, is
# installed too when run as root; without one everything works, slower.
#   usage: scripts/system-packages.sh [python]
set -euo pipefail
python=${1:-python3}

command -v "$python" >/dev/null || { echo "set-up: no '$python' found; install Python 3.10 to 3.13 first" >&2; exit 1; }
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
"$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' ||
  { echo "set-up: Python $version is not supported; 3.10 to 3.13 is" >&2; exit 1; }

has_library() { # soname: in the loader's cache, or beside the interpreter (pyenv, conda, python.org builds)
  ldconfig -p 2>/dev/null | grep "$1" >/dev/null || [ -e "$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')/$1" ]
}

missing=()
"$python" -c 'import venv, ensurepip' 2>/dev/null || missing+=("python$version-venv")
has_library "libpython$version.so.1.0" || missing+=("libpython$version")  # Triton's Python backend links it
has_library libexpat.so.1 || missing+=(libexpat1)
has_library libstdc++.so.6 || missing+=(libstdc++6)
has_library libz.so.1 || missing+=(zlib1g)

can_install() { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; }
install() {
  echo "set-up: installing $*"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

if ! printf '#include <stdlib.h>\n' | ${CC:-cc} -E - >/dev/null 2>&1 && can_install; then
  install gcc libc6-dev || echo "set-up: there is no C compiler; numpy does what it would compile, slower" >&2
fi
[ ${#missing[@]} -eq 0 ] && exit 0
can_install || { echo "set-up: these packages are missing; please run:  sudo apt-get install ${missing[*]}" >&2; exit 1; }
install "${missing[@]}"
