# A worker: stock MariaDB and its agent in one container.
FROM debian:bookworm
RUN apt-get update && apt-get install -y --no-install-recommends mariadb-server python3 python3-venv gcc libc6-dev python3-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /skyshard
COPY . .
RUN bash scripts/setup.sh /venv
COPY deploy/docker/home.cnf /etc/mysql/conf.d/skyshard.cnf
CMD ["bash", "deploy/docker/worker.sh"]
