#!/usr/bin/env bash
# Installs what only the benchmark needs: the engine that it compares with, and what draws its picture.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}

if ! dpkg -s mariadb-plugin-spider >/dev/null 2>&1; then
    sudo=""
    [ "$(id -u)" = 0 ] || sudo=sudo
    echo "bench: installing mariadb-plugin-spider"
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends mariadb-plugin-spider >/dev/null
fi
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-build-isolation -c constraints.txt -e '.[bench]'
