#!/usr/bin/env bash
# The home server: data directory, MariaDB, metadata. $DATA/ready appears when proxies may come.
# SKYSHARD (the command), DATA, SECRETS, LISTEN and REPLICAS can be set, so that it runs outside containers too.
. "$(dirname "$0")/run.sh"
rm -f "$data/ready"
$skyshard server --role home --dir "$data" --listen "${LISTEN:-0.0.0.0:3306}" \
    --password-file "$secrets/service" --root-password-file "$secrets/root" &
step $skyshard home init --home "mysql://skyshard@localhost/?socket=$data/run/mariadb.sock" \
    --password-file "$secrets/service" --replicas "${REPLICAS:-1}" --wait 120
touch "$data/ready"
hold
