#!/usr/bin/env bash
#
# Runs three real nodes for minutes under kills (-9), pauses, slow readers, huge commands and thousands of
# connections. Prints a line for each minute: writes, latencies, and what each node takes of the machine.
#
#   bench/soak.sh                        ten minutes, 5,000 connections
#   bench/soak.sh --minutes 1 --debug    a short run of the debug build
#
# It fails when an acknowledged write is lost, a command or a connection has no answer within a minute, no
# write is acknowledged for 20 s, a node panics, holds 1 GiB of memory, keeps the sockets of clients that have
# gone, or has a log of 500 MB. What it does is in tests/tests/processes/soak.rs.
#
# Options:
#   --minutes N       how long the faults strike (10)
#   --connections N   how many connections stay open (5000)
#   --seed N          draws the faults (1)
#   --debug           the debug build
#
# Exit codes: 0 done, 2 usage, 4 too few file descriptors, another one where something did not hold.
set -euo pipefail
cd "$(dirname "$0")/.."

minutes=10 connections=5000 seed=1 profile=(--release)

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }
fail() { printf 'error: %s\n' "$2" >&2; exit "$1"; }

while (($#)); do
    case $1 in
        --minutes | --connections | --seed)
            (($# > 1)) && [[ $2 =~ ^[0-9]+$ ]] || fail 2 "$1 needs a number" ;;&
        --minutes) minutes=$2; shift 2 ;;
        --connections) connections=$2; shift 2 ;;
        --seed) seed=$2; shift 2 ;;
        --debug) profile=(); shift ;;
        -h | --help) usage; exit 0 ;;
        *) fail 2 "unknown option $1; --help lists them" ;;
    esac
done

# The crowd needs a descriptor for each connection, and its nodes inherit the limit.
needed=$((connections + 512))
if [ "$(ulimit -n)" != unlimited ] && [ "$(ulimit -n)" -lt "$needed" ]; then
    ulimit -n "$needed" 2>/dev/null || fail 4 "the limit on open files is $(ulimit -Hn), and $needed are needed"
fi
export PURLIN_SOAK_SECONDS=$((60 * minutes)) PURLIN_SOAK_CONNECTIONS=$connections PURLIN_SOAK_SEED=$seed
exec cargo test --quiet "${profile[@]}" -p purlin-tests --test processes soak::soak -- --ignored --exact --nocapture
