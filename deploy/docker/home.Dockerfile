# The home server: stock MariaDB with the settings of a local cluster's home.
FROM mariadb:10.11
COPY deploy/docker/home.cnf /etc/mysql/conf.d/skyshard.cnf
ENV MARIADB_ALLOW_EMPTY_ROOT_PASSWORD=0 MARIADB_RANDOM_ROOT_PASSWORD=1 MARIADB_USER=skyshard \
    MARIADB_PASSWORD_FILE=/run/secrets/service
