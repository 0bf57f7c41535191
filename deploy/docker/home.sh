#!/usr/bin/env bash
# The home server: data directory, MariaDB, metadata. $DATA/ready appears when proxies may come.
# SKYSHARD (the command), DATA, SECRETS, LISTEN, PROXY_NETWORKS and REPLICAS (without it the number of copies stays as it is)
# can be set, so that it runs outside containers too.
. "$(dirname "$0")/run.sh"
rm -f "$data/ready"
$skyshard server --role home --dir "$data" --listen "${LISTEN:-0.0.0.0:3306}" \
    --password-file "$secrets/service" --root-password-file "$secrets/root" ${PROXY_NETWORKS:+--proxy-networks "$PROXY_NETWORKS"} &
step $skyshard home init --home "mysql://skyshard@localhost/?socket=$data/run/mariadb.sock" \
    --password-file "$secrets/service" ${REPLICAS:+--replicas "$REPLICAS"} --wait 120
touch "$data/ready"
hold
