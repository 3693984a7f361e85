#!/usr/bin/env bash
#
# Measures Purlin beside Redis and beside a hand-written write path on one machine, and prints a table in Markdown.
#
#   bench/compare.sh                          starts both, and measures
#   bench/compare.sh --purlin 7000,7100,7200  measures a cluster that runs already
#   bench/compare.sh --before FILE            measures one `purlin` beside an earlier one, without Redis
#
# Redis runs with `--appendonly yes --appendfsync always`: each write it acknowledges is on its disk.
# Purlin runs as `purlin dev --groups 48 --shards 1`, on the runtime that --runtime names: each write that it acknowledges is on the
# disks of two of three nodes. The hand-written path (bench/floor) does the same without raft and
# without recovery: it shows what this machine reaches. All keep their data in a fresh directory
# under target/, on the same file system.
#
# The loads are SET of 16 bytes over 100,000 keys, by the same generator:
#
#   1 client, keys whose group is led by the node asked     (leader-local)
#   1 client, keys whose group is led by another node       (forwarded)
#   64 clients, spread over the nodes
#   64 clients, spread over the nodes, pipeline 16
#   the same two, and 256 clients with pipeline 64; those of Purlin as clients of a cluster (--cluster)
#
# Each round runs Redis, then Purlin, then the path, with the same keys and the same seed (A B C A B C
# ...), so that a machine that gets slower takes all with it. The path has one leader: all keys are local. A ratio is that of one round; the table gives the median
# over the rounds and, in brackets, the least and the greatest. Only ratios of one run of this script
# are worth comparing.
#
# All processes are started by this shell, since a scheduler that groups processes by session
# (sched_autogroup_enabled) holds back the flushes of one session while another is busy. Before the
# first run, the machine must be idle for two seconds.
#
# Options:
#   --purlin PORTS    ports of a running cluster, separated by commas; nothing is started for it
#   --rounds N        how often each load is run for each side (5)
#   --duration TIME   how long each run measures (10s)
#   --warmup TIME     what each run throws away first (2s)
#   --binary FILE     the `purlin` to start (target/release/purlin, built first)
#   --before FILE     an earlier `purlin`, which takes the place of Redis: did a change cost speed?
#   --runtime NAME    what the shards of Purlin run on: glommio (as without it) or ring; with --before the
#                     earlier one runs on glommio, so that one binary on both sides compares the runtimes
#   --one-node        all clients of Purlin go to its first node
#   --no-floor        without the hand-written path; --before is always without it
#   --force           measure on a machine that is not idle (the table says so)
#   --keep            keep the results of all runs under target/
#
# Needs bash, awk, redis-server and redis-cli. Exit codes: 0 done, 1 a run failed, 2 usage,
# 4 the machine is not idle.
set -euo pipefail
start=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
script=bench/compare.sh
. bench/compare/common.sh

purlin_ports='' binary='' before='' rounds=5 duration=10s warmup=2s one_node='' runtime=glommio force='' keep='' no_floor=''
keys=100000 value_size=16 groups=48

while (($#)); do
    case $1 in
        --purlin | --binary | --before | --runtime | --rounds | --duration | --warmup)
            (($# > 1)) || fail 2 "$1 needs a value" ;;&
        --purlin) purlin_ports=${2//,/ }; shift 2 ;;
        --binary) binary=$(cd "$start" && realpath "$2"); shift 2 ;;
        --before) before=$(cd "$start" && realpath "$2"); shift 2 ;;
        --rounds) rounds=$2; shift 2 ;;
        --duration) duration=$2; shift 2 ;;
        --warmup) warmup=$2; shift 2 ;;
        --runtime) runtime=$2; shift 2 ;;
        --one-node) one_node=yes; shift ;;
        --no-floor) no_floor=yes; shift ;;
        --force) force=yes; shift ;;
        --keep) keep=yes; shift ;;
        -h | --help) usage; exit 0 ;;
        *) fail 2 "unknown option $1; see bench/compare.sh --help" ;;
    esac
done
[[ $rounds =~ ^[1-9][0-9]*$ ]] || fail 2 "--rounds $rounds is no number of rounds"
[[ $purlin_ports =~ ^[0-9\ ]*$ ]] || fail 2 "--purlin takes ports, as in 7000,7100,7200"
for tool in awk redis-server redis-cli; do
    command -v "$tool" >/dev/null || fail 2 "$tool is needed, and not installed"
done

# ---- processes -----------------------------------------------------------------------------------

redis_pid='' purlin_pid='' before_pid='' before_ports='' base=redis
floor_pids='' floor_ports=''
if [[ -n $before ]]; then base=before no_floor=yes; fi
mkdir -p target
work=$(mktemp -d "$PWD/target/compare.XXXXXX")

# Ends what this script started, by process id, and removes the data.
clean_up() {
    local pid
    # The leader of the path first: it ends with an error when its followers go before it.
    for pid in $purlin_pid $before_pid $redis_pid $floor_pids; do
        kill -TERM "$pid" 2>/dev/null || true
    done
    for pid in $purlin_pid $before_pid $redis_pid $floor_pids; do
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$work/redis" "$work/before" "$work/purlin" "$work"/floor.?
    if [[ -n $keep ]]; then
        printf 'results of all runs: %s\n' "$work" >&2
    else
        rm -rf "$work"
    fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

answers() { [[ $(redis-cli -p "$1" ping 2>/dev/null) == PONG ]]; }

start_redis() {
    mkdir "$work/redis"
    redis_port=$(free_port) || fail 1 'no free port for Redis'
    # Rewriting the log in the middle of a run would be another load.
    redis-server --port "$redis_port" --bind 127.0.0.1 --dir "$work/redis" --save '' \
        --appendonly yes --appendfsync always --auto-aof-rewrite-percentage 0 \
        >"$work/redis.log" 2>&1 &
    redis_pid=$!
    until_true 100 answers "$redis_port" || fail 1 "Redis did not start: $(tail -n 3 "$work/redis.log")"
}

# start_cluster SIDE BINARY OPTIONS...: starts three nodes; their pid is in `started_pid`, their ports in `started_ports`.
start_cluster() {
    local side=$1 binary=$2
    shift 2
    mkdir "$work/$side"
    # `dev` keeps its data under the directory it is started in.
    (cd "$work/$side" && exec "$binary" dev --shards 1 --groups "$groups" "$@") >"$work/$side.log" 2>&1 &
    started_pid=$!
    # At once, so that `clean_up` knows it.
    if [[ $side == before ]]; then before_pid=$started_pid; else purlin_pid=$started_pid; fi
    until_true 300 has_three_ports "$work/$side.log" || fail 1 "Purlin did not start: $(tail -n 5 "$work/$side.log")"
    started_ports=$(printed_ports "$work/$side.log" | tr '\n' ' ')
}

# start_floor NUMBER ROLE OPTIONS...: starts one process of the hand-written path, and waits until it listens.
# Its port is in `started_ports`.
start_floor() {
    local number=$1 log="$work/floor.$1.log"
    shift
    mkdir "$work/floor.$number"
    target/floor/release/purlin-floor "$@" --listen 127.0.0.1:0 --dir "$work/floor.$number" >"$log" 2>&1 &
    floor_pids="$! $floor_pids"
    until_true 300 grep -q '^listening on ' "$log" || fail 1 "the hand-written path did not start: $(cat "$log")"
    started_ports=$(sed -n 's/^listening on .*://p' "$log")
}

ports_of() {
    case $1 in
        redis) printf '%s' "$redis_port" ;;
        before) printf '%s' "$before_ports" ;;
        purlin) printf '%s' "$purlin_ports" ;;
        floor) printf '%s' "$floor_ports" ;;
    esac
}

# The processes behind a side: Redis alone, `purlin dev` and its nodes, or the three of the path.
processes() {
    if [[ $1 == floor ]]; then
        printf '%s' "$floor_pids"
        return
    fi
    local pid=$purlin_pid
    if [[ $1 == redis ]]; then pid=$redis_pid; fi
    if [[ $1 == before ]]; then pid=$before_pid; fi
    if [[ -n $pid ]]; then
        printf '%s ' "$pid"
        children "$pid"
    fi
}

# ---- slots ---------------------------------------------------------------------------------------

info() { redis-cli -p "$1" info | tr -d '\r' | sed -n "s/^$2://p"; }

# slots_of GROUPS GROUP,GROUP,...: the hash slots of these groups, as ranges.
# Group g of G owns the slots (g-1)*16384/G up to, and without, g*16384/G.
slots_of() {
    local all=$1 group ranges=()
    for group in ${2//,/ }; do
        ranges+=("$(((group - 1) * 16384 / all))-$((group * 16384 / all - 1))")
    done
    (IFS=,; printf '%s' "${ranges[*]}")
}

# others GROUPS GROUP,GROUP,...: the groups that are not in the list.
others() {
    local group list=()
    for ((group = 1; group <= $1; group++)); do
        [[ ,$2, == *,$group,* ]] || list+=("$group")
    done
    (IFS=,; printf '%s' "${list[*]}")
}

# key_slots SIDE WHICH: the slots that the first node of a side leads (local) or that others lead (forwarded).
key_slots() {
    local first leads all
    first=$(ports_of "$1")
    first=${first%% *}
    leads=$(info "$first" purlin_leads)
    all=$(info "$first" purlin_groups)
    [[ -n $leads && -n $all ]] || fail 1 "node $first does not say which groups it leads (purlin_leads in INFO)"
    ((all <= 1024)) || fail 1 "INFO of node $first lists the groups that it leads among the first 1,024 only, of $all"
    if [[ $2 == forwarded ]]; then leads=$(others "$all" "$leads"); fi
    [[ -n $leads ]] || fail 1 "no group is $2 to node $first"
    slots_of "$all" "$leads"
}

# ---- runs ----------------------------------------------------------------------------------------

# run SIDE LOAD ROUND OPTIONS...: one run; appends "rate p50 p99 cpu-per-operation errors" to its list.
run() {
    local side=$1 load=$2 round=$3 file before after port ports option=() pids
    shift 3
    file="$work/$load.$side.$round.json"
    ports=$(ports_of "$side")
    [[ -z $one_node && $load != one-* ]] || ports=${ports%% *}
    for port in $ports; do option+=(-p "$port"); done
    [[ $load != cluster-* || " $cluster_sides " != *" $side "* ]] || option+=(--cluster)
    read -ra pids <<<"$(processes "$side" | tr '\n' ' ')"
    before=$(ticks "${pids[@]}")
    target/release/purlin-bench "${option[@]}" --command set --value-size "$value_size" --keys "$keys" \
        --duration "$duration" --warmup "$warmup" --seed "$round" --json "$file" "$@" \
        >"$work/$load.$side.$round.txt" || fail 1 "a run failed: $(tail -n 5 "$work/$load.$side.$round.txt")"
    after=$(ticks "${pids[@]}")
    awk -v rate="$(value result achieved_rate "$file")" -v p50="$(value latency p50 "$file")" \
        -v p99="$(value latency p99 "$file")" -v errors="$(errors "$file")" \
        -v cpu="$(per_operation "$before" "$after" "$(all_operations "$file")")" '
        BEGIN { print rate, p50 / 1e6, p99 / 1e6, cpu, errors }' >>"$work/$load.$side.list"
    printf '.' >&2
}

# measure LOAD TITLE OPTIONS...: all rounds of a load, and its row.
measure() {
    local load=$1 title=$2 round
    shift 2
    for ((round = 1; round <= rounds; round++)); do
        run "$base" "$load" "$round" "$@"
        run purlin "$load" "$round" "$@"
        [[ -n $no_floor ]] || run floor "$load" "$round" "$@"
    done
    row "$load" "$title" >>"$work/table"
}

# One row: medians, the range of what was measured, and the ratios round by round.
row() {
    local lists=("$work/$1.$base.list" "$work/$1.purlin.list")
    [[ -n $no_floor ]] || lists+=("$work/$1.floor.list")
    paste -d ' ' "${lists[@]}" | awk -v title="$2" "$statistics"'
        {
            rate_r[NR] = $1; p50_r[NR] = $2; p99_r[NR] = $3; cpu_r[NR] = $4 + 0; errors_r += $5
            rate_p[NR] = $6; p50_p[NR] = $7; p99_p[NR] = $8; cpu_p[NR] = $9 + 0; errors_p += $10
            if ($9 == "-") no_cpu = 1
            rate[NR] = $6 / $1; p50[NR] = $7 / $2; p99[NR] = $8 / $3
            if (NF <= 10) next
            has_floor = 1
            rate_f[NR] = $11; p50_f[NR] = $12; p99_f[NR] = $13; cpu_f[NR] = $14 + 0; errors_f += $15
            rate_pf[NR] = $6 / $11; p50_pf[NR] = $7 / $12; p99_pf[NR] = $8 / $13
        }
        # The columns of the hand-written path, behind the others.
        function floor_of(list, ratios, form) {
            return has_floor ? " " figure(list, n, form) " | " figure(ratios, n, "%.2f") " |" : ""
        }
        END {
            n = NR
            print "| " title " | ops/s | " figure(rate_r, n, "%.0f") " | " figure(rate_p, n, "%.0f") " | " figure(rate, n, "%.2f") " |" floor_of(rate_f, rate_pf, "%.0f")
            print "| | p50 ms | " figure(p50_r, n, "%.3f") " | " figure(p50_p, n, "%.3f") " | " figure(p50, n, "%.2f") " |" floor_of(p50_f, p50_pf, "%.3f")
            print "| | p99 ms | " figure(p99_r, n, "%.3f") " | " figure(p99_p, n, "%.3f") " | " figure(p99, n, "%.2f") " |" floor_of(p99_f, p99_pf, "%.3f")
            print "| | server CPU µs/op | " figure(cpu_r, n, "%.1f") " | " (no_cpu ? "–" : figure(cpu_p, n, "%.1f")) " | |" (has_floor ? " " figure(cpu_f, n, "%.1f") " | |" : "")
            if (errors_r + errors_p + errors_f)
                print "| | errors | " errors_r + 0 " | " errors_p + 0 " | |" (has_floor ? " " errors_f + 0 " | |" : "")
        }'
}

# ---- the measurement -----------------------------------------------------------------------------

packages=(-p purlin-bench)
if [[ -z $purlin_ports && -z $binary ]]; then
    packages+=(-p purlin-server)
    binary=$PWD/target/release/purlin
fi
cargo build --release --quiet "${packages[@]}"
if [[ -z $no_floor ]]; then
    # A workspace of its own, with its own target directory below ours.
    (cd bench/floor && cargo build --release --quiet --locked --target-dir ../../target/floor)
fi

# An earlier binary knows no runtimes.
runtime_option=()
[[ $runtime == glommio ]] || runtime_option=(--runtime "$runtime")

gate=''
await_idle_machine
if [[ -n $before ]]; then
    start_cluster before "$before"
    before_ports=$started_ports
else
    start_redis
fi
if [[ -z $purlin_ports ]]; then
    start_cluster purlin "$binary" "${runtime_option[@]}"
    purlin_ports=$started_ports
fi
if [[ -z $no_floor ]]; then
    start_floor 2 follower
    followers=(--follower "127.0.0.1:$started_ports")
    start_floor 3 follower
    followers+=(--follower "127.0.0.1:$started_ports")
    start_floor 1 leader "${followers[@]}"
    floor_ports=$started_ports
fi
for port in $before_ports $purlin_ports $floor_ports; do
    until_true 300 answers "$port" || fail 1 "nothing answers on port $port"
done

# The sides that tell clients which shard leads a slot: an earlier binary may not.
cluster_sides=purlin
if [[ -n $before ]]; then
    slots=''
    # There is no row before the first election.
    for _ in {1..100}; do
        slots=$(redis-cli -p "${before_ports%% *}" cluster slots 2>&1 | tr -d '\r\n')
        [[ -z $slots ]] || break
        sleep 0.1
    done
    [[ -z $slots || $slots == ERR* ]] || cluster_sides='purlin and before'
fi

if [[ -n $(info "${purlin_ports%% *}" purlin_leads) ]]; then
    # Assigned first: a failure inside an argument would not end the script.
    local_slots=$(key_slots purlin local)
    forwarded_slots=$(key_slots purlin forwarded)
    if [[ -n $before ]]; then
        before_slots=$(key_slots before local)
        [[ $before_slots == "$local_slots" ]] || fail 1 'the first nodes of the two clusters do not lead the same groups'
    fi
    measure one-local '1 client, leader-local' --clients 1 --slots "$local_slots"
    measure one-forwarded '1 client, forwarded' --clients 1 --slots "$forwarded_slots"
else
    measure one-any '1 client, any key' --clients 1
fi
measure many '64 clients' --clients 64
measure pipelined '64 clients × pipeline 16' --clients 64 --pipeline 16
measure cluster-many '64 clients, cluster' --clients 64
measure cluster-pipelined '64 clients × pipeline 16, cluster' --clients 64 --pipeline 16
measure cluster-deep '256 clients × pipeline 64, cluster' --clients 256 --pipeline 64
printf '\n' >&2

sed -n 's/^host *//p' "$work/many.purlin.1.txt"
if [[ -n $before ]]; then
    other="Purlin before: $("$before" --version)" heads='Purlin before | Purlin after | after / before'
else
    other=$(redis-server --version | grep -oE 'v=[0-9.]+' | sed 's/v=/Redis /')
    heads='Redis, fsync ×1 | Purlin, fsync ×3 | Purlin / Redis'
fi
columns='|---|---|---|---|---|'
if [[ -z $no_floor ]]; then
    heads+=' | hand-written path, fsync ×3 | Purlin / path'
    columns+='---|---|'
fi
printf '%s; %s; Purlin %s; --cluster: %s; autogroup as above; machine %s\n' \
    "SET of $value_size B over $keys keys, $rounds rounds of $duration (warm-up $warmup)" "$other" \
    "$(git rev-parse --short HEAD 2>/dev/null || echo unknown) on $runtime" "$cluster_sides" "$gate"
printf '\n| load | | %s |\n%s\n' "$heads" "$columns"
cat "$work/table"
