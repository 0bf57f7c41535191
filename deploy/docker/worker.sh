#!/usr/bin/env bash
# A worker: data directory, MariaDB, agent; then it registers itself at home.
# WORKER is its name. SKYSHARD (the command), DATA, SECRETS, ADDRESS (to listen on), HOST (by which proxies
# find it), PORT, HTTP_PORT and HOME_URL can be set, so that it runs outside containers too.
. "$(dirname "$0")/run.sh"
address=${ADDRESS:-0.0.0.0} port=${PORT:-4041} http=${HTTP_PORT:-4042}
$skyshard server --role worker --dir "$data" --password-file "$secrets/service" &
mkdir -p "$data/spool"
cat >"$data/agent.yaml" <<END
worker: $WORKER
listen: $address:$port
http: $address:$http
secret_file: $secrets/agents
spool_dir: $data/spool
load_dir: $data/files
mariadb: {socket: $data/run/mariadb.sock, password_file: $secrets/service}
END
$skyshard agent --config "$data/agent.yaml" &
step $skyshard worker add "$WORKER" --host "${HOST:-$WORKER}" --port "$port" --http-port "$http" \
    --home "${HOME_URL:-mysql://skyshard@home:3306/}" --password-file "$secrets/service" \
    --secret-file "$secrets/agents" --wait 120
hold
