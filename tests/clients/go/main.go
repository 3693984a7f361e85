// Runs batches of commands with the ClusterClient of go-redis. The arguments are the ports of the seeds, on loopback.
// tests/tests/processes/cluster_clients/client.rs describes the lines that come in and go out.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
)

// How often the library sends a command again by itself: the default of MaxRedirects.
const retries = 3

type batch struct {
	Pipeline bool       `json:"pipeline"`
	Commands [][]string `json:"commands"`
}

type reply map[string]any

func call(target redis.Cmdable, command []string) redis.Cmder {
	ctx := context.Background()
	switch command[0] {
	case "SET":
		return target.Set(ctx, command[1], command[2], 0)
	case "GET":
		return target.Get(ctx, command[1])
	case "INCR":
		return target.Incr(ctx, command[1])
	}
	panic("no such command: " + command[0])
}

func told(done redis.Cmder) reply {
	err := done.Err()
	if errors.Is(err, redis.Nil) {
		return reply{"ok": nil}
	}
	if err != nil {
		return reply{"error": fmt.Sprintf("%T: %v", err, err)}
	}
	switch done := done.(type) {
	case *redis.IntCmd:
		return reply{"ok": done.Val()}
	case *redis.StatusCmd:
		return reply{"ok": done.Val()}
	case *redis.StringCmd:
		return reply{"ok": done.Val()}
	}
	panic(fmt.Sprintf("%T", done))
}

func run(client *redis.ClusterClient, batch batch) []redis.Cmder {
	if batch.Pipeline {
		pipe := client.Pipeline()
		for _, command := range batch.Commands {
			call(pipe, command)
		}
		// Each command has its own error too.
		done, _ := pipe.Exec(context.Background())
		return done
	}
	var done []redis.Cmder
	for _, command := range batch.Commands {
		done = append(done, call(client, command))
	}
	return done
}

func say(value any) {
	line, err := json.Marshal(value)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", line)
}

func main() {
	var seeds []string
	for _, port := range os.Args[1:] {
		seeds = append(seeds, "127.0.0.1:"+port)
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: seeds,
		// A pipeline that finds nobody at a port does not ask for the slots again: this does, by default each minute.
		ClusterStateReloadInterval: time.Second,
	})
	if err := client.Ping(context.Background()).Err(); err != nil {
		log.Fatal(err)
	}
	say(map[string]any{"client": "go-redis " + redis.Version(), "retries": retries})
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var batch batch
		if err := json.Unmarshal(lines.Bytes(), &batch); err != nil {
			log.Fatal(err)
		}
		replies := []reply{}
		for _, done := range run(client, batch) {
			replies = append(replies, told(done))
		}
		say(replies)
	}
}
