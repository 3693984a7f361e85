# What bench/compare.sh and bench/compare/run.sh share. Each sources this file from the root of the repository, and sets
# `script` (its own path, for --help) before, and `force` (measure on a machine that is not idle).

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$script"; }
fail() { printf 'error: %s\n' "$2" >&2; exit "$1"; }

# ---- processes -----------------------------------------------------------------------------------

# until_true TRIES COMMAND...: runs the command ten times a second until it succeeds.
until_true() {
    local tries=$1
    shift
    while ! "$@" >/dev/null 2>&1; do
        ((tries-- > 0)) || return 1
        sleep 0.1
    done
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A port that nothing listens on now.
free_port() {
    local port
    for _ in {1..100}; do
        port=$((20000 + RANDOM % 10000))
        listens "$port" || { printf '%s' "$port"; return; }
    done
    return 1
}

# printed_ports FILE: the gateway ports that `purlin dev` tells its user to type: one line `redis-cli -p PORT ...` a node.
printed_ports() { grep -oE 'redis-cli .*-p +[0-9]+' "$1" | grep -oE '[0-9]+$' | awk '!seen[$0]++'; }
has_three_ports() { (($(printed_ports "$1" | wc -l) >= 3)); }

# children PID: the processes that a process has started.
children() { cat "/proc/$1/task/"*/children 2>/dev/null || true; }

# ticks PID...: processor time of the processes so far, in clock ticks; nothing if there are none to look at.
ticks() {
    local pid files=()
    for pid in "$@"; do
        [[ -r /proc/$pid/stat ]] && files+=("/proc/$pid/stat")
    done
    ((${#files[@]})) || return 0
    # The name, in brackets, may hold anything: what counts stands after it.
    awk '{ sub(/^.*\) /, ""); sum += $12 + $13 } END { print sum }' "${files[@]}"
}

# per_operation BEFORE AFTER OPERATIONS: processor time in microseconds, from two numbers of ticks.
per_operation() {
    awk -v before="$1" -v after="$2" -v hertz="$(getconf CLK_TCK)" -v all="$3" \
        'BEGIN { print before == "" || all == 0 ? "-" : (after - before) / hertz * 1e6 / all }'
}

# ---- the gate ------------------------------------------------------------------------------------

# The share of processor time used over two seconds, in percent.
busy_percent() {
    local first second
    first=$(head -n 1 /proc/stat)
    sleep 2
    second=$(head -n 1 /proc/stat)
    printf '%s\n%s\n' "$first" "$second" | awk '
        { idle[NR] = $5 + $6; for (i = 2; i <= 9; i++) all[NR] += $i }
        END { printf "%d", 100 - 100 * (idle[2] - idle[1]) / (all[2] - all[1]) }'
}

await_idle_machine() {
    local busy
    for _ in {1..15}; do
        busy=$(busy_percent)
        if ((busy < 5)); then
            gate="idle before the first run ($busy % busy)"
            return
        fi
        if [[ -n $force ]]; then
            gate="**not idle** before the first run ($busy % busy): the figures are worth little"
            return
        fi
    done
    fail 4 "the machine is not idle: $busy % of its cores were busy with something else for 30 s; stop that, or --force"
}

# ---- results -------------------------------------------------------------------------------------

# value SECTION FIELD FILE: a number from the JSON of a run; fields of the section are indented deeper.
value() {
    awk -v section="\"$1\":" -v field="\"$2\":" '
        $1 == section { inside = 1 }
        inside && $1 == field { sub(/,$/, "", $2); print $2; exit }' "$3"
}

# Successes of all seconds, warm-up too, since the processor time is of all of them.
all_operations() {
    awk '$1 == "\"at\":" { sub(/,$/, "", $2); length_ = $2 - last; last = $2 }
         $1 == "\"rate\":" { sub(/,$/, "", $2); sum += $2 * length_ }
         END { printf "%d", sum }' "$1"
}

# errors FILE: operations of purlin-bench that did not succeed.
errors() {
    awk '$1 ~ /^"(refused|lost|timed_out)":$/ { sub(/,$/, "", $2); sum += $2 } END { print sum + 0 }' "$1"
}

# For awk: medians, and the range of what was measured.
statistics='
    function sort(list, n,    i, j, t) {
        for (i = 2; i <= n; i++)
            for (j = i; j > 1 && list[j] < list[j - 1]; j--) { t = list[j]; list[j] = list[j - 1]; list[j - 1] = t }
    }
    function median(list, n) { return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2 }
    function figure(list, n, form,    text) {
        if (!n) return "–"
        sort(list, n)
        text = sprintf(form, median(list, n))
        return text " (" sprintf(form, list[1]) "–" sprintf(form, list[n]) ")"
    }'
