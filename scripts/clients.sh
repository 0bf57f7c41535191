#!/usr/bin/env bash
# Installs the clients that `make test-clients` runs: Debian packages when missing, Python and npm packages in a
# directory of their own. What cannot be installed is named at the end and in DIR/missing; the tests repeat it.
set -uo pipefail
cd "$(dirname "$0")/.."
here=${1:-.clients}
mkdir -p "$here"
: >"$here/missing"
sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo
updated=""

missing() { # client, why
    echo "$1: $2" >>"$here/missing"
    echo "clients: $1 cannot be installed: $2" >&2
}

# client, test that it is there, packages; quiet unless something has to be installed
debian() {
    local client=$1 check=$2
    shift 2
    eval "$check" >/dev/null 2>&1 && return
    if [ -z "$updated" ]; then
        $sudo apt-get update -qq >"$here/apt.log" 2>&1
        updated=yes
    fi
    echo "clients: installing $*"
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "$@" >>"$here/apt.log" 2>&1
    eval "$check" >/dev/null 2>&1 || missing "$client" "Debian packages $* do not install"
}

debian "mariadb CLI" 'command -v mariadb && command -v mariadb-dump' mariadb-client
debian "Connector/J" 'test -e /usr/share/java/mariadb-java-client.jar' libmariadb-java
debian "Connector/J" 'java --list-modules | grep -q jdk.compiler' default-jdk-headless
debian "ODBC" 'test -n "$(find /usr/lib -name libmaodbc.so)"' odbc-mariadb
debian "ODBC" 'command -v isql' unixodbc
debian "mysql2" 'command -v node && command -v npm' nodejs npm
debian "DBD::MariaDB" 'perl -MDBD::MariaDB -e 1' libdbd-mariadb-perl
debian "STILTS" 'command -v stilts' stilts
debian "RMariaDB" 'Rscript -e "library(RMariaDB)"' r-cran-rmariadb
debian "mariadb connector for Python" 'command -v mariadb_config && command -v cc' libmariadb-dev gcc libc6-dev python3-dev

python="$here/venv/bin/python"
[ -x "$python" ] || python3 -m venv "$here/venv"
while read -r module client package; do
    "$python" -c "import $module" 2>/dev/null && continue
    echo "clients: installing $package"
    "$here/venv/bin/pip" install --quiet --disable-pip-version-check "$package" >"$here/pip.log" 2>&1 &&
        "$python" -c "import $module" || missing "$client" "$package does not install"
done <<'LIST'
pymysql pymysql pymysql==1.2.4
cryptography pymysql cryptography==50.0.2
sqlalchemy SQLAlchemy sqlalchemy>=2,<3
pandas pandas pandas>=2,<4
pyodbc pyodbc pyodbc>=5
asyncmy asyncmy asyncmy==0.2.18
mysql.connector mysql-connector-python mysql-connector-python>=9
mariadb mariadb-connector-python mariadb>=1.1,<2
LIST

while read -r package client; do
    name=${package%@*}
    [ -e "$here/node_modules/$name/package.json" ] && continue
    echo "clients: installing $package"
    npm install --prefix "$here" --no-audit --no-fund --loglevel=error "$package" >"$here/npm.log" 2>&1 ||
        missing "$client" "npm package $package does not install"
done <<'LIST'
mysql2@3 mysql2
mariadb@3 mariadb (node)
LIST

if [ -s "$here/missing" ]; then
    echo "clients: not installed:" && sed 's/^/  /' "$here/missing"
else
    echo "clients: all are installed"
fi
