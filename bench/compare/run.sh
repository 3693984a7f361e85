#!/usr/bin/env bash
#
# Measures Purlin beside dragonboat v4, openraft and etcd on one machine, and prints tables in Markdown. All keep three
# durable replicas: a write is synced on a majority before it is answered.
#
#   bench/compare/run.sh                      all loads
#   bench/compare/run.sh --loads groups-48    one of them
#
# The loads:
#
#   groups-48, groups-4096   in one process: 4,096 commands of 16 B under way, over 48 or 4,096 groups. Purlin
#                            (`purlin-bench in-process`, both runtimes) beside dragonboat v4 (dragonboat/, three
#                            NodeHosts with default options; its default log, on Pebble, and its log Tan), and for 48
#                            groups beside openraft 0.9 (openraft/, with a log and a network of our own: one log file
#                            for each node, O_DIRECT and O_DSYNC, a write for all that waits)
#   clients-64               over sockets: 64 clients, each with one SET of 16 B under way, over 100,000 keys. Purlin
#                            (`purlin dev`, both runtimes, purlin-bench) beside three nodes of etcd (etcd/, a client in Go)
#
# Each round runs each side once, in turn (A B C D A B C D ...), from this shell, each with a fresh directory under
# target/. A ratio is that of one round; the tables give the median over the rounds and, in brackets, the least and the
# greatest. Only ratios of one run of this script are worth comparing.
#
# The script builds below target/, and installs nothing. What it cannot measure, it names: without Go neither dragonboat
# nor etcd, without etcd the load clients-64 of Purlin alone. The first build fetches the modules that go.sum and the
# crates that openraft/Cargo.lock pin.
#
# Options:
#   --loads LIST      which loads, separated by commas (groups-48,groups-4096,clients-64)
#   --logs LIST       which logs of dragonboat (pebble,tan)
#   --rounds N        how often each side is run (5)
#   --duration TIME   how long each run measures, as in 10s (10s)
#   --warmup TIME     what each run throws away first (2s)
#   --limit SECONDS   a run that takes longer, with its start and its end, has failed (180)
#   --force           measure on a machine that is not idle (the tables say so)
#   --keep            keep the results of all runs under target/
#
# Needs bash, awk and cargo. Exit codes: 0 done, 1 a run of Purlin failed, 2 usage, 4 the machine is not idle.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
script=bench/compare/run.sh
. bench/compare/common.sh

loads=groups-48,groups-4096,clients-64 logs=pebble,tan rounds=5 duration=10s warmup=2s limit=180 force='' keep=''
in_flight=4096 value_size=16 keys=100000

while (($#)); do
    case $1 in
        --loads | --logs | --rounds | --duration | --warmup | --limit)
            (($# > 1)) || fail 2 "$1 needs a value" ;;&
        --loads) loads=$2; shift 2 ;;
        --logs) logs=$2; shift 2 ;;
        --rounds) rounds=$2; shift 2 ;;
        --duration) duration=$2; shift 2 ;;
        --warmup) warmup=$2; shift 2 ;;
        --limit) limit=$2; shift 2 ;;
        --force) force=yes; shift ;;
        --keep) keep=yes; shift ;;
        -h | --help) usage; exit 0 ;;
        *) fail 2 "unknown option $1; see bench/compare/run.sh --help" ;;
    esac
done
[[ $rounds =~ ^[1-9][0-9]*$ ]] || fail 2 "--rounds $rounds is no number of rounds"
[[ $limit =~ ^[1-9][0-9]*$ ]] || fail 2 "--limit $limit is no number of seconds"
for time in "$duration" "$warmup"; do
    [[ $time =~ ^[0-9]+(ms|s|m)$ ]] || fail 2 "$time is no time: give it as 500ms, 10s or 1m"
done
for load in ${loads//,/ }; do
    [[ $load =~ ^(groups-48|groups-4096|clients-64)$ ]] || fail 2 "--loads: there is no load $load; see --help"
done
for log in ${logs//,/ }; do
    [[ $log =~ ^(pebble|tan)$ ]] || fail 2 "--logs: $log is neither pebble nor tan"
done

has_load() { [[ ,$loads, == *,$1,* ]]; }

# ---- processes -----------------------------------------------------------------------------------

mkdir -p target
out=$PWD/target/compare-bin
work=$(mktemp -d "$PWD/target/compare.XXXXXX")
# What cannot be measured, and why, a line each.
: >"$work/missing"
# The processes of the cluster that runs now.
pids=''

stop_cluster() {
    local pid
    for pid in $pids; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in $pids; do wait "$pid" 2>/dev/null || true; done
    pids=''
    rm -rf "$work/data"
}

clean_up() {
    stop_cluster
    if [[ -n $keep ]]; then
        rm -rf "$work/data"
        printf 'results of all runs: %s\n' "$work" >&2
    else
        rm -rf "$work"
    fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# start_purlin RUNTIME: three nodes; `ports` has those of their gateways.
start_purlin() {
    # `dev` keeps its data under the directory it is started in.
    (cd "$work/data" && exec "$OLDPWD/target/release/purlin" dev --shards 1 --groups 48 --runtime "$1") \
        >"$work/cluster.log" 2>&1 &
    pids=$!
    until_true 300 has_three_ports "$work/cluster.log" || return 1
    ports=$(printed_ports "$work/cluster.log" | tr '\n' ' ')
}

# start_etcd: three nodes; `ports` has those for clients.
start_etcd() {
    local node peers=() clients=() cluster=''
    for node in 0 1 2; do
        clients+=("$(free_port)")
        peers+=("$(free_port)")
        cluster+="${cluster:+,}n$node=http://127.0.0.1:${peers[node]}"
    done
    for node in 0 1 2; do
        etcd --name "n$node" --data-dir "$work/data/n$node" \
            --listen-peer-urls "http://127.0.0.1:${peers[node]}" \
            --initial-advertise-peer-urls "http://127.0.0.1:${peers[node]}" \
            --listen-client-urls "http://127.0.0.1:${clients[node]}" \
            --advertise-client-urls "http://127.0.0.1:${clients[node]}" \
            --initial-cluster "$cluster" --initial-cluster-state new \
            --snapshot-count 100000 --quota-backend-bytes 8589934592 --log-level error \
            >>"$work/cluster.log" 2>&1 &
        pids+=" $!"
    done
    for node in 0 1 2; do until_true 300 listens "${clients[node]}" || return 1; done
    ports="${clients[*]}"
}

# Processor time of the cluster so far, in clock ticks. `purlin dev` has its nodes as children.
cluster_ticks() {
    local pid
    ticks $pids $(for pid in $pids; do children "$pid"; done)
}

# ---- runs ----------------------------------------------------------------------------------------

# note LOAD SIDE RATE P50-µs P99-µs CPU-µs ERRORS: the result of a run, or dashes.
note() {
    printf '%s %s %s %s %s\n' "${@:3}" >>"$work/$1.$2.list"
    printf '.' >&2
}

# failed LOAD SIDE ROUND: a run of Purlin that fails ends all; one of another system is noted.
failed() {
    local why
    why=$(tail -n 4 "$work/$1.$2.$3.txt" | tr -s '\n ' ' ')
    [[ $2 != glommio && $2 != ring ]] || fail 1 "a run failed ($1, $2): $why"
    printf '* %s, %s, round %s failed or took more than %s s: %s\n' "$1" "$2" "$3" "$limit" "$why" >>"$work/missing"
    note "$1" "$2" - - - - -
}

# in_process LOAD SIDE ROUND GROUPS: one run in one process.
in_process() {
    local load=$1 side=$2 round=$3 groups=$4 file="$work/$1.$2.$3.json" command
    case $side in
        glommio | ring) command=(target/release/purlin-bench in-process --runtime "$side") ;;
        openraft) command=("$out/purlin-compare-openraft") ;;
        *) command=("$out/dragonboat" --log "$side") ;;
    esac
    mkdir -p "$work/data"
    if timeout -k 10 "$limit" "${command[@]}" --groups "$groups" --in-flight "$in_flight" --value-size "$value_size" \
        --duration "$duration" --warmup "$warmup" --dir "$work/data" --json "$file" \
        >"$work/$load.$side.$round.txt" 2>&1; then
        note "$load" "$side" "$(value result ops_per_second "$file")" "$(value result p50_micros "$file")" \
            "$(value result p99_micros "$file")" "$(value result cpu_micros_per_op "$file")" \
            "$(value result not_acknowledged "$file")"
    else
        failed "$load" "$side" "$round"
    fi
    rm -rf "$work/data"
}

# over_sockets LOAD SIDE ROUND: starts a cluster, runs 64 clients, and stops it.
over_sockets() {
    local load=$1 side=$2 round=$3 file="$work/$1.$2.$3.json" text="$work/$1.$2.$3.txt" port option=() before cpu
    mkdir -p "$work/data"
    : >"$work/cluster.log"
    if [[ $side == etcd ]]; then start_etcd; else start_purlin "$side"; fi ||
        fail 1 "$side did not start: $(tail -n 3 "$work/cluster.log")"
    # Until all groups have leaders.
    sleep 3
    before=$(cluster_ticks)
    if [[ $side == etcd ]]; then
        for port in $ports; do option+=("127.0.0.1:$port"); done
        timeout -k 10 "$limit" "$out/etcd-load" --endpoints "$(IFS=,; echo "${option[*]}")" --clients 64 --keys "$keys" \
            --value-size "$value_size" --duration "$duration" --warmup "$warmup" --json "$file" >"$text" 2>&1 ||
            { failed "$@"; stop_cluster; return; }
        cpu=$(per_operation "$before" "$(cluster_ticks)" "$(value result all_operations "$file")")
        note "$load" "$side" "$(value result ops_per_second "$file")" "$(value result p50_micros "$file")" \
            "$(value result p99_micros "$file")" "$cpu" "$(value result not_acknowledged "$file")"
    else
        for port in $ports; do option+=(-p "$port"); done
        timeout -k 10 "$limit" target/release/purlin-bench "${option[@]}" --clients 64 --command set --keys "$keys" \
            --value-size "$value_size" --duration "$duration" --warmup "$warmup" --seed "$round" --json "$file" \
            >"$text" 2>&1 || failed "$@"
        cpu=$(per_operation "$before" "$(cluster_ticks)" "$(all_operations "$file")")
        note "$load" "$side" "$(value result achieved_rate "$file")" "$(micros "$file" p50)" "$(micros "$file" p99)" \
            "$cpu" "$(errors "$file")"
    fi
    stop_cluster
}

micros() { awk -v nanos="$(value latency "$2" "$1")" 'BEGIN { print nanos / 1e3 }'; }

# measure LOAD TITLE RUN ARGUMENT SIDES...: all rounds of a load, and its rows.
measure() {
    local load=$1 title=$2 run=$3 argument=$4 round side ours theirs
    shift 4
    for ((round = 1; round <= rounds; round++)); do
        for side in "$@"; do
            # A system that has failed once is not waited for again.
            if grep -qs '^-' "$work/$load.$side.list"; then
                note "$load" "$side" - - - - -
            else
                "$run" "$load" "$side" "$round" $argument
            fi
        done
    done
    for side in "$@"; do
        row "$load" "$side" "$title" >>"$work/table"
        title=''
    done
    for theirs in "$@"; do
        [[ $theirs != glommio && $theirs != ring ]] || continue
        for ours in glommio ring; do ratio "$load" "$ours" "$theirs" >>"$work/ratios"; done
    done
}

name_of() {
    case $1 in
        glommio | ring) printf 'Purlin, %s' "$1" ;;
        pebble) printf 'dragonboat v4, Pebble (its default)' ;;
        tan) printf 'dragonboat v4, Tan' ;;
        openraft) printf 'openraft 0.9, a log of ours (group commit, O_DSYNC)' ;;
        etcd) printf '%s' "$etcd_version" ;;
    esac
}

# row LOAD SIDE TITLE: medians, and the range of what was measured. Failed runs are not in it.
row() {
    awk -v title="$3" -v name="$(name_of "$2")" "$statistics"'
        $1 == "-" { next }
        { n++; rate[n] = $1; p50[n] = $2 / 1e3; p99[n] = $3 / 1e3; cpu[n] = $4 + 0; errors += $5 }
        END {
            if (n < NR) name = name ", " n + 0 " of " NR " rounds"
            print "| " title " | " name " | " figure(rate, n, "%.0f") " | " figure(p50, n, "%.2f") " | " \
                figure(p99, n, "%.2f") " | " figure(cpu, n, "%.2f") " | " errors + 0 " |"
        }' "$work/$1.$2.list"
}

# ratio LOAD OURS THEIRS: the ratio of the rates, in the median and round by round.
ratio() {
    paste -d ' ' "$work/$1.$2.list" "$work/$1.$3.list" | awk -v load="$1" -v name="$(name_of "$2") / $(name_of "$3")" "$statistics"'
        $6 == "-" { all = all " –"; next }
        { n++; rate[n] = $1 / $6; all = all sprintf(" %.2f", rate[n]) }
        END { print "| " load " | " name " | " figure(rate, n, "%.2f") " |" all " |" }'
}

# ---- the measurement -----------------------------------------------------------------------------

packages=(-p purlin-bench)
if has_load clients-64; then packages+=(-p purlin-server); fi
cargo build --release --quiet "${packages[@]}"

# build_go FOLDER NAME: builds the Go program below target/. A toolchain that is too old says so, and fetches no other.
build_go() {
    (cd "bench/compare/$1" && GOTOOLCHAIN=local go build -mod=readonly -buildvcs=false -o "$out/$2" .) \
        2>"$work/build.txt" && return
    printf '* %s: its program was not built: %s\n' "$1" "$(tail -n 1 "$work/build.txt")" >>"$work/missing"
    return 1
}

# build_openraft: builds the program on openraft below target/.
build_openraft() {
    cargo build --release --locked --quiet --manifest-path bench/compare/openraft/Cargo.toml \
        --target-dir target/compare-openraft 2>"$work/build.txt" &&
        cp target/compare-openraft/release/purlin-compare-openraft "$out/" && return
    printf '* openraft: its program was not built: %s\n' "$(tail -n 1 "$work/build.txt")" >>"$work/missing"
    return 1
}

mkdir -p "$out"
others=() openraft=() etcd=() etcd_version=etcd
if has_load groups-48 && build_openraft; then openraft=(openraft); fi
if ! command -v go >/dev/null; then
    printf '* dragonboat and etcd: there is no Go (`go`)\n' >>"$work/missing"
else
    if has_load groups-48 || has_load groups-4096; then
        if build_go dragonboat dragonboat; then read -ra others <<<"${logs//,/ }"; fi
    fi
    if has_load clients-64; then
        if ! command -v etcd >/dev/null; then
            printf '* etcd: there is no `etcd` (Debian: etcd-server)\n' >>"$work/missing"
        elif build_go etcd etcd-load; then
            etcd=(etcd)
            etcd_version="etcd $(etcd --version | sed -n 's/^etcd Version: //p')"
        fi
    fi
fi

gate=''
await_idle_machine
: >"$work/table"
: >"$work/ratios"
if has_load groups-48; then
    measure groups-48 '48 groups, 4,096 commands under way, in one process' in_process 48 glommio ring "${others[@]}" "${openraft[@]}"
fi
if has_load groups-4096; then
    # Tan makes a file of 64 MiB for each replica of a group at its start: 768 GiB here.
    few=()
    for log in "${others[@]}"; do
        if [[ $log == tan ]]; then
            printf '* groups-4096, tan: it would take 768 GiB of the disk, 64 MiB for each replica of a group\n' >>"$work/missing"
        else
            few+=("$log")
        fi
    done
    printf '* groups-4096, openraft: its program is made for a few groups; each replica has tasks and timers of its own\n' \
        >>"$work/missing"
    measure groups-4096 '4,096 groups, 4,096 commands under way, in one process' in_process 4096 glommio ring "${few[@]}"
fi
if has_load clients-64; then
    measure clients-64 '64 clients over sockets' over_sockets '' glommio ring "${etcd[@]}"
fi
printf '\n' >&2

cores=$(nproc)
printf '**Three durable replicas; a write is synced on a majority before it is answered.** '
printf 'Commands of %s B, %s rounds of %s (warm-up %s), all sides in turn; Purlin %s; %s, %s cores, kernel %s; %s; machine %s\n' \
    "$value_size" "$rounds" "$duration" "$warmup" "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)" \
    "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$cores" "$(uname -r)" "$(date +%F)" "$gate"
printf '\n| load | system | ops/s | p50 ms | p99 ms | CPU µs/op | not acknowledged |\n|---|---|---|---|---|---|---|\n'
cat "$work/table"
if [[ -s $work/ratios ]]; then
    printf '\n| load | ratio of the rates | median | round by round |\n|---|---|---|---|\n'
    cat "$work/ratios"
fi
if [[ -s $work/missing ]]; then
    printf '\nNot measured:\n\n'
    cat "$work/missing"
fi
