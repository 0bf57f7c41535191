# Sourced by the entrypoints: runs several processes as one, and ends all of them, the last one first, when one ends.
set -euo pipefail
skyshard=${SKYSHARD:-/venv/bin/skyshard}
secrets=${SECRETS:-/run/secrets}
data=${DATA:-/var/lib/skyshard}
mkdir -p "$data"

stop() {
    trap - TERM INT
    local left
    left=$(jobs -p | tac)
    for pid in $left; do  # an agent lets its jobs end, and they need the server
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" || true
    done
    exit "$1"
}
trap 'stop 0' TERM INT

# Runs a command to its end; a signal is seen meanwhile.
step() {
    "$@" &
    wait $! || stop 1
}

# Waits for the first process that ends: none of them should.
hold() {
    wait -n || true
    echo "a process has ended; the others are stopped" >&2
    stop 1
}
