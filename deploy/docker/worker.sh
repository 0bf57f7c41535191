#!/usr/bin/env bash
# Starts MariaDB, makes the service account, and runs the agent.
set -euo pipefail
[ -d /var/lib/mysql/mysql ] || mariadb-install-db --user=mysql --skip-test-db >/dev/null
mkdir -p /run/mysqld && chown mysql /run/mysqld
mariadbd --user=mysql &
until mariadb-admin ping >/dev/null 2>&1; do sleep 0.2; done
password=$(cat /run/secrets/service)
mariadb -e "CREATE USER IF NOT EXISTS skyshard@localhost IDENTIFIED BY '$password'; GRANT ALL ON *.* TO skyshard@localhost; CREATE DATABASE IF NOT EXISTS skyshard_scratch"
cat >/tmp/agent.yaml <<END
worker: $WORKER
listen: 0.0.0.0:4041
http: 0.0.0.0:4042
secret_file: /run/secrets/agents
mariadb: {socket: /run/mysqld/mysqld.sock, password_file: /run/secrets/service}
END
exec /venv/bin/skyshard agent --config /tmp/agent.yaml
