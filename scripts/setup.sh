#!/usr/bin/env bash
# Installs what the project needs: Debian packages when missing, Python packages in a virtual environment.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}

need=()
command -v mariadbd >/dev/null || [ -x /usr/sbin/mariadbd ] || need+=(mariadb-server)
command -v mariadb >/dev/null || need+=(mariadb-client)
command -v python3 >/dev/null || need+=(python3)
python3 -c 'import ensurepip' 2>/dev/null || need+=(python3-venv)
command -v cc >/dev/null || need+=(gcc libc6-dev python3-dev)
command -v docker-compose >/dev/null || need+=(docker-compose)
if [ ${#need[@]} -gt 0 ]; then
    sudo=""
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || { echo "setup: install these packages as root: ${need[*]}" >&2; exit 1; }
        sudo=sudo
    fi
    echo "setup: installing ${need[*]}"
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi

stamp="$venv/.installed"
if [ ! -e "$stamp" ] || [ -n "$(find pyproject.toml setup.py constraints.txt shard/wire/*.pyx shard/wire/*.pxd -newer "$stamp")" ]; then
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "setup: Python 3.11 or newer is needed" >&2; exit 1; }
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -c constraints.txt setuptools wheel cython
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-build-isolation -c constraints.txt -e '.[dev]'
    touch "$stamp"
fi
