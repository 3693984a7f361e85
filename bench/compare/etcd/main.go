// The load "64 clients" of purlin-bench on etcd: a closed loop of puts of 16 B over 100,000 keys. Each client has a
// connection of its own, to one of the endpoints in turn, and one put under way.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	timeout = 10 * time.Second
	backOff = 10 * time.Millisecond
)

const (
	warmingUp int32 = iota
	measured
	ending
)

type options struct {
	endpoints                []string
	clients, keys, valueSize int
	duration, warmup         time.Duration
	json                     string
}

type result struct {
	Seconds         float64 `json:"seconds"`
	Acknowledged    int     `json:"acknowledged"`
	AllOperations   int     `json:"all_operations"`
	OpsPerSecond    float64 `json:"ops_per_second"`
	P50Micros       float64 `json:"p50_micros"`
	P99Micros       float64 `json:"p99_micros"`
	MaxMicros       float64 `json:"max_micros"`
	NotAcknowledged int     `json:"not_acknowledged"`
}

// counted is what came of the puts of one client.
type counted struct {
	all, failed int
	lastError   error
	// In the measured time, in microseconds.
	latencies []uint32
}

func main() {
	var o options
	endpoints := flag.String("endpoints", "127.0.0.1:2379", "the endpoints of etcd, separated by commas")
	flag.IntVar(&o.clients, "clients", 64, "how many clients there are")
	flag.IntVar(&o.keys, "keys", 100_000, "how many keys there are")
	flag.IntVar(&o.valueSize, "value-size", 16, "bytes of a value")
	flag.DurationVar(&o.duration, "duration", 10*time.Second, "how long to measure")
	flag.DurationVar(&o.warmup, "warmup", 2*time.Second, "how long to run before the measurement")
	flag.StringVar(&o.json, "json", "", "write the result as JSON to this file")
	flag.Parse()
	o.endpoints = strings.Split(*endpoints, ",")
	if o.clients < 1 || o.keys < 1 || o.valueSize < 1 || o.duration <= 0 || o.warmup < 0 {
		fmt.Fprintln(os.Stderr, "error: -clients, -keys, -value-size and -duration are above 0")
		os.Exit(2)
	}
	if err := run(o); err != nil {
		fmt.Fprintf(os.Stderr, "error: etcd could not be measured: %v\n"+
			"  in     %s\n"+
			"  means  there is no result\n"+
			"  do     look whether all members of the cluster run\n", err, *endpoints)
		os.Exit(1)
	}
}

func run(o options) error {
	clients := make([]*clientv3.Client, 0, o.clients)
	defer func() {
		for _, client := range clients {
			client.Close()
		}
	}()
	for i := range o.clients {
		client, err := clientv3.New(clientv3.Config{
			Endpoints:   []string{o.endpoints[i%len(o.endpoints)]},
			DialTimeout: timeout,
			Logger:      zap.NewNop(),
		})
		if err != nil {
			return err
		}
		clients = append(clients, client)
	}
	var phase atomic.Int32
	var all sync.WaitGroup
	counts := make([]counted, o.clients)
	for i, client := range clients {
		all.Add(1)
		go func() {
			defer all.Done()
			put(client, o, uint64(i), &phase, &counts[i])
		}()
	}
	time.Sleep(o.warmup)
	start := time.Now()
	phase.Store(measured)
	time.Sleep(o.duration)
	phase.Store(ending)
	seconds := time.Since(start).Seconds()
	all.Wait()
	return report(o, counts, seconds)
}

// put keeps one put under way until the run is ending.
func put(client *clientv3.Client, o options, seed uint64, phase *atomic.Int32, c *counted) {
	random := rand.New(rand.NewPCG(seed, 0))
	value := strings.Repeat("v", o.valueSize)
	for phase.Load() != ending {
		key := fmt.Sprintf("key:%012d", random.IntN(o.keys))
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		start := time.Now()
		_, err := client.Put(ctx, key, value)
		cancel()
		if err != nil {
			c.failed, c.lastError = c.failed+1, err
			time.Sleep(backOff)
			continue
		}
		c.all++
		if phase.Load() == measured {
			c.latencies = append(c.latencies, uint32(time.Since(start).Microseconds()))
		}
	}
}

func report(o options, counts []counted, seconds float64) error {
	r := result{Seconds: seconds}
	var latencies []uint32
	var lastError error
	for _, c := range counts {
		latencies = append(latencies, c.latencies...)
		r.AllOperations += c.all
		r.NotAcknowledged += c.failed
		if c.lastError != nil {
			lastError = c.lastError
		}
	}
	n := len(latencies)
	if n == 0 {
		return errors.Join(errors.New("nothing was acknowledged"), lastError)
	}
	slices.Sort(latencies)
	r.Acknowledged, r.OpsPerSecond = n, float64(n)/seconds
	r.P50Micros = float64(latencies[n/2])
	r.P99Micros = float64(latencies[n*99/100])
	r.MaxMicros = float64(latencies[n-1])
	fmt.Printf("result    %.0f puts a second, p50 %.3f ms, p99 %.3f ms, longest %.3f ms; %d not acknowledged\n",
		r.OpsPerSecond, r.P50Micros/1e3, r.P99Micros/1e3, r.MaxMicros/1e3, r.NotAcknowledged)
	if o.json == "" {
		return nil
	}
	text, err := json.MarshalIndent(map[string]any{"version": 1, "result": r}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.json, append(text, '\n'), 0o644)
}
