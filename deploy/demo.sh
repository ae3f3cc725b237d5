#!/usr/bin/env bash
# A demo on this machine alone: promkeep with a PostgreSQL of its own, and two Prometheus servers, "alpha" and "beta",
# that scrape themselves and promkeep and write what they see to promkeep. "make demo" builds and starts it; it runs
# until Ctrl-C, which stops everything and removes its data. With --once it ends after having shown the result.
set -euo pipefail
cd "$(dirname "$0")/.."

once=
case "${1-}" in
"") ;;
--once) once=yes ;;
*) echo "usage: deploy/demo.sh [--once]" >&2; exit 2 ;;
esac

for program in prometheus promtool; do
    command -v "$program" >/dev/null || { echo "demo: $program is missing: run make deps-test" >&2; exit 1; }
done
[ -x bin/promkeep ] || { echo "demo: bin/promkeep is missing: run make build" >&2; exit 1; }

dir=$(mktemp -d "${TMPDIR:-/tmp}/promkeep-demo.XXXXXX")
chmod 755 "$dir" # started by root, PostgreSQL runs as another user, who must get in
pids=()

stop_all() {
    trap - EXIT INT TERM
    local i
    # The writers first, promkeep last.
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        kill -TERM "${pids[i]}" 2>/dev/null || true
        wait "${pids[i]}" 2>/dev/null || true
    done
    rm -rf "$dir"
}
trap stop_all EXIT
trap 'echo; echo "Stopping ..."; exit 0' INT TERM

# start runs a program in a session of its own, so that a Ctrl-C at the terminal reaches this script alone.
start() {
    local log=$dir/$1.log
    shift
    setsid "$@" >"$log" 2>&1 </dev/null &
    pids+=($!)
}

in_use() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# pick_port sets a variable to a port below the range from which the kernel takes ports for outgoing connections.
next_port=$((10000 + RANDOM % 15000))
pick_port() {
    while in_use "$next_port"; do next_port=$((next_port + 1)); done
    printf -v "$1" %d "$next_port"
    next_port=$((next_port + 1))
}

# wait_for WHAT LOG COMMAND...: until the command succeeds, for at most two minutes, or until a program has ended.
wait_for() {
    local what=$1 log=$2 deadline=$((SECONDS + 120)) pid
    shift 2
    until "$@" >/dev/null 2>&1; do
        for pid in "${pids[@]}"; do
            kill -0 "$pid" 2>/dev/null || deadline=0
        done
        if ((SECONDS >= deadline)); then
            echo "demo: $what did not come; the end of $log:" >&2
            tail -n 25 "$dir/$log" >&2
            exit 1
        fi
        sleep 0.2
    done
}

query() { promtool query instant "http://127.0.0.1:$promkeep" "$1"; }

# sees N QUERY: the query's only sample is at least N.
sees() { query "scalar($2) >= bool $1" | grep -qE '(^|[[:space:]])1([[:space:]]|$)'; }

run_prometheus() {
    local name=$1 port=$2
    mkdir "$dir/$name"
    cat >"$dir/$name/prometheus.yml" <<YAML
global:
  scrape_interval: 2s
  external_labels:
    cluster: $name
scrape_configs:
  - job_name: prometheus
    static_configs:
      - targets: ["127.0.0.1:$port"]
  - job_name: promkeep
    static_configs:
      - targets: ["127.0.0.1:$promkeep"]
remote_write:
  - url: http://127.0.0.1:$promkeep/api/v1/write
    queue_config:
      batch_send_deadline: 1s
YAML
    start "$name" prometheus --config.file="$dir/$name/prometheus.yml" --storage.tsdb.path="$dir/$name/data" \
        --web.listen-address="127.0.0.1:$port"
}

promkeep='' alpha='' beta=''
pick_port promkeep
echo "Starting promkeep ..."
start promkeep bin/promkeep serve --data-dir "$dir/promkeep" --web.listen-address "127.0.0.1:$promkeep"
wait_for "promkeep's answer to a query" promkeep.log query '1 + 1'

echo "Starting the Prometheus servers alpha and beta ..."
pick_port alpha
run_prometheus alpha "$alpha"
pick_port beta
run_prometheus beta "$beta"
wait_for "the samples of both clusters" promkeep.log sees 4 'sum(up)'

cat <<TEXT

Both clusters arrive. Asked of promkeep, sum by (cluster) (up):

$(query 'sum by (cluster) (up)' | sed 's/^/    /')

    promkeep          http://127.0.0.1:$promkeep    (a Grafana data source of type Prometheus takes this URL)
    Prometheus alpha  http://127.0.0.1:$alpha
    Prometheus beta   http://127.0.0.1:$beta
    logs              $dir/*.log

Try:  promtool query instant http://127.0.0.1:$promkeep 'count by (cluster, job) ({__name__=~".+"})'
TEXT

if [ -z "$once" ]; then
    echo
    echo "Running until Ctrl-C."
    # wait, unlike a sleep, ends at once on a signal. It also ends when one of the programs does.
    wait -n "${pids[@]}" || true
    echo "demo: one of the programs has ended; see the logs:" >&2
    tail -n 5 "$dir"/*.log >&2
    exit 1
fi
