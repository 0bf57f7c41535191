#!/usr/bin/env bash
# The tour: a real star catalogue, sharded, read by the stock MariaDB client.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
port=${PORT:-4040}
dir=${DEMO_DIR:-demo}
sky="$venv/bin/skyshard"

[ -e "$dir/sample/CATALOG.yaml" ] || "$sky" sample --dir "$dir/sample"
"$sky" cluster up --dir "$dir/cluster" --port "$port"
client=(mariadb -h 127.0.0.1 -P "$port" -u root --table)
if ! "${client[@]}" -N -e "SELECT 1 FROM hip.Object WHERE objectId = 1" >/dev/null 2>&1; then
    "$sky" ingest "$dir/sample/CATALOG.yaml" --dir "$dir/cluster" --replace
fi

show() {
    printf '\n# %s\nmariadb> %s\n' "$1" "$2"
    "${client[@]}" hip -e "$2"
}
show "A cone search: stars within half a degree of the Orion Nebula" \
    "SELECT objectId, ra, decl, vmag FROM Object WHERE scisql_s2PtInCircle(ra, decl, 83.82, -5.39, 0.5) = 1 ORDER BY vmag LIMIT 5"
show "A look-up by director key: Sirius" "SELECT * FROM Object WHERE objectId = 32349"
show "A light curve (synthetic)" \
    "SELECT mjd, band, flux, fluxErr FROM Detection WHERE objectId = 32349 AND band = 'r' ORDER BY mjd LIMIT 5"
show "A GROUP BY over the sky" \
    "SELECT FLOOR(decl / 30) * 30 AS zone, COUNT(*) AS stars, AVG(vmag) AS mean_v FROM Object GROUP BY zone ORDER BY zone"
show "A near-neighbour search: close pairs of bright stars" \
    "SELECT a.objectId, b.objectId, scisql_angSep(a.ra, a.decl, b.ra, b.decl) * 3600 AS arcsec FROM Object a, Object b WHERE scisql_angSep(a.ra, a.decl, b.ra, b.decl) < 0.01 AND a.objectId < b.objectId AND a.vmag < 5 AND b.vmag < 6 ORDER BY arcsec LIMIT 5"
show "A match join of two catalogues" \
    "SELECT o.objectId, b.brightId, m.sep_arcsec FROM Object o JOIN ObjectBright m ON o.objectId = m.objectId JOIN Bright b ON b.brightId = m.brightId WHERE o.vmag < 0.2 ORDER BY o.vmag"
show "What happens to a query" "EXPLAIN SELECT band, COUNT(*) FROM Detection WHERE flux > 5000 GROUP BY band"
cat <<END

The cluster is running. Connect:  mariadb -h 127.0.0.1 -P $port -u root hip
Stop it:                          $sky cluster down --dir $dir/cluster
END
