"""Runs batches of commands with the cluster client of redis-py.

The arguments are the ports of the seeds, on loopback. tests/tests/processes/cluster_clients/client.rs describes the
lines that come in and go out.
"""

import json
import sys

import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException

# How often the library sends a command again by itself: the default of its option `retry`.
RETRIES = 3

# The second one is no RedisError. It comes when nodes tell different leaders, while groups elect new ones.
FAILURES = (redis.RedisError, RedisClusterException)


def call(target, command):
    """Calls the method of a client, or of a pipeline, that is named as the command."""
    name, *words = command
    return getattr(target, name.lower())(*words)


def attempt(client, command):
    try:
        return call(client, command)
    except FAILURES as error:
        return error


def pipeline(client, commands):
    pipe = client.pipeline()
    for command in commands:
        call(pipe, command)
    try:
        return pipe.execute(raise_on_error=False)
    except FAILURES as error:
        return [error] * len(commands)


def told(reply):
    if isinstance(reply, Exception):
        return {"error": f"{type(reply).__name__}: {reply}"}
    return {"ok": "OK" if reply is True else reply}


def main():
    seeds = [ClusterNode("127.0.0.1", int(port)) for port in sys.argv[1:]]
    client = RedisCluster(startup_nodes=seeds, decode_responses=True)
    client.ping()
    name = f"redis-py {redis.__version__}"
    print(json.dumps({"client": name, "retries": RETRIES}), flush=True)
    for line in sys.stdin:
        batch = json.loads(line)
        if batch["pipeline"]:
            replies = pipeline(client, batch["commands"])
        else:
            replies = [attempt(client, command) for command in batch["commands"]]
        print(json.dumps([told(reply) for reply in replies]), flush=True)


main()
