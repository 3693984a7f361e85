// The load of `purlin-bench in-process` on dragonboat v4: three NodeHosts in this process, each with a log of its own on
// the disk, and proposals from goroutines at the NodeHost whose replica leads the group.
//
// A proposal is acknowledged when it is durable on two of the three NodeHosts and applied. Both logs that dragonboat
// ships sync each write before it counts: the one on Pebble, which is the default, and Tan. After the load each group is
// asked how many commands it has applied, and the answer must fit what was acknowledged.
//
// Each proposal under way has a goroutine of its own, as in the benchmarks of dragonboat. The leaders are spread over
// the three NodeHosts before the load, as Purlin spreads its leaders. A proposal that a group without a leader has
// dropped is repeated after 10 ms.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/logger"
	"github.com/lni/dragonboat/v4/plugin/tan"
)

const (
	nodes    = 3
	patience = 2 * time.Minute
	timeout  = 10 * time.Second
	backOff  = 10 * time.Millisecond
	// What Tan allocates for each replica of a group at its start.
	tanFileBytes = 64 << 20
)

type options struct {
	groups, inFlight, valueSize int
	duration, warmup            time.Duration
	log, dir, json              string
}

func main() {
	var o options
	flag.IntVar(&o.groups, "groups", 48, "how many groups there are")
	flag.IntVar(&o.inFlight, "in-flight", 4096, "how many proposals are under way, over all groups")
	flag.IntVar(&o.valueSize, "value-size", 16, "bytes of a proposal")
	flag.DurationVar(&o.duration, "duration", 10*time.Second, "how long to measure")
	flag.DurationVar(&o.warmup, "warmup", 2*time.Second, "how long to run before the measurement")
	flag.StringVar(&o.log, "log", "pebble", "the log: pebble, which is the default of dragonboat, or tan")
	flag.StringVar(&o.dir, "dir", ".", "an existing directory for the logs, which are removed at the end")
	flag.StringVar(&o.json, "json", "", "write the result as JSON to this file")
	flag.Parse()
	if err := o.check(); err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		os.Exit(2)
	}
	if err := run(o); err != nil {
		fmt.Fprintf(os.Stderr, "error: dragonboat could not be measured: %v\n"+
			"  in     this process, and %s\n"+
			"  means  there is no result\n"+
			"  do     look whether the directory exists and has room, and whether the machine is overloaded\n", err, o.dir)
		os.Exit(1)
	}
}

func (o options) check() error {
	if o.groups < 1 || o.inFlight < 1 || o.valueSize < 1 || o.duration <= 0 || o.warmup < 0 {
		return errors.New("-groups, -in-flight, -value-size and -duration are above 0")
	}
	if o.log != "pebble" && o.log != "tan" {
		return fmt.Errorf("-log %s is neither pebble nor tan", o.log)
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(o.dir, &disk); err != nil {
		return fmt.Errorf("-dir %s: %w", o.dir, err)
	}
	needs, free := uint64(o.groups)*nodes*tanFileBytes, disk.Bavail*uint64(disk.Bsize)
	if o.log == "tan" && needs > free/2 {
		return fmt.Errorf("tan makes a file of 64 MiB for each replica of a group: %d groups need %d GiB, and %s has %d GiB free",
			o.groups, needs>>30, o.dir, free>>30)
	}
	return nil
}

// run starts the hosts, runs the load, compares what was applied, and stops the hosts.
func run(o options) error {
	for _, name := range []string{"dragonboat", "raft", "rsm", "transport", "grpc", "logdb", "config", "settings",
		"order", "registry", "server", "utils", "tan", "vfs", "pebblekv", "id", "raftpb"} {
		logger.GetLogger(name).SetLevel(logger.ERROR)
	}
	dir := filepath.Join(o.dir, fmt.Sprintf("dragonboat-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	start := time.Now()
	hosts, err := startHosts(o, dir)
	defer func() {
		for _, host := range hosts {
			host.Close()
		}
	}()
	if err != nil {
		return err
	}
	fmt.Printf("start     replicas after %.1f s\n", time.Since(start).Seconds())
	leaders, err := spreadLeaders(o, hosts)
	if err != nil {
		return err
	}
	fmt.Printf("start     leaders after %.1f s\n", time.Since(start).Seconds())
	result := measure(o, hosts, leaders)
	if err := compare(o, hosts, result); err != nil {
		return err
	}
	for group := range o.groups {
		leader, _, ok, err := hosts[0].GetLeaderID(uint64(group + 1))
		result.LeadersMoved = result.LeadersMoved || err != nil || !ok || leader != leaders[group]
	}
	return report(o, leaders, result)
}

// startHosts starts the three NodeHosts, and on each one the replicas of all groups.
func startHosts(o options, dir string) ([]*dragonboat.NodeHost, error) {
	members, err := freeAddresses()
	if err != nil {
		return nil, err
	}
	var hosts []*dragonboat.NodeHost
	for node := uint64(1); node <= nodes; node++ {
		c := config.NodeHostConfig{
			NodeHostDir:    filepath.Join(dir, fmt.Sprintf("n%d", node)),
			RTTMillisecond: 200,
			RaftAddress:    members[node],
		}
		if o.log == "tan" {
			c.Expert.LogDBFactory = tan.Factory
		}
		host, err := dragonboat.NewNodeHost(c)
		if err != nil {
			return hosts, err
		}
		hosts = append(hosts, host)
	}
	return hosts, inParallel(o.groups*nodes, 64, func(i int) error {
		// The times of the examples of dragonboat: a heartbeat each 200 ms, an election after 2 s or more. The node that
		// shall lead a group campaigns first.
		election := uint64(20)
		if wanted(i/nodes) == i%nodes+1 {
			election = 10
		}
		c := config.Config{
			ReplicaID:    uint64(i%nodes + 1),
			ShardID:      uint64(i/nodes + 1),
			CheckQuorum:  true,
			PreVote:      true,
			ElectionRTT:  election,
			HeartbeatRTT: 1,
		}
		return hosts[i%nodes].StartReplica(members, false, newRegister, c)
	})
}

// wanted is the node that shall lead a group, by the number of the group from 0 on.
func wanted(group int) int { return group%nodes + 1 }

// freeAddresses are three loopback ports that are free now, by the id of their node.
func freeAddresses() (map[uint64]string, error) {
	members := make(map[uint64]string)
	for node := uint64(1); node <= nodes; node++ {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		members[node] = listener.Addr().String()
	}
	return members, nil
}

// spreadLeaders waits until each group has its leader at the node that is its own in turn, and returns the leaders.
func spreadLeaders(o options, hosts []*dragonboat.NodeHost) ([]uint64, error) {
	leaders := make([]uint64, o.groups)
	until := time.Now().Add(patience)
	err := inParallel(o.groups, o.groups, func(i int) error {
		group, wanted := uint64(i+1), uint64(wanted(i))
		for {
			leader, _, ok, err := hosts[wanted-1].GetLeaderID(group)
			if err != nil {
				return err
			}
			if ok && leader == wanted {
				leaders[i] = leader
				return nil
			}
			if time.Now().After(until) {
				return fmt.Errorf("group %d has no leader at node %d after %v", group, wanted, patience)
			}
			if ok {
				// A transfer that is under way refuses another one.
				_ = hosts[leader-1].RequestLeaderTransfer(group, wanted)
			}
			time.Sleep(300 * time.Millisecond)
		}
	})
	return leaders, err
}

// inParallel calls the function with 0 to n - 1, from so many goroutines. It returns the first error.
func inParallel(n, width int, call func(int) error) error {
	var next atomic.Int64
	var first error
	var once sync.Once
	var all sync.WaitGroup
	for range min(n, width) {
		all.Add(1)
		go func() {
			defer all.Done()
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := call(i); err != nil {
					once.Do(func() { first = err })
					return
				}
			}
		}()
	}
	all.Wait()
	return first
}

const (
	warmingUp int32 = iota
	measured
	ending
)

type result struct {
	Seconds         float64        `json:"seconds"`
	Acknowledged    int            `json:"acknowledged"`
	OpsPerSecond    float64        `json:"ops_per_second"`
	P50Micros       float64        `json:"p50_micros"`
	P99Micros       float64        `json:"p99_micros"`
	MaxMicros       float64        `json:"max_micros"`
	CPUMicrosPerOp  float64        `json:"cpu_micros_per_op"`
	NotAcknowledged uint64         `json:"not_acknowledged"`
	Errors          map[string]int `json:"errors"`
	LeadersMoved    bool           `json:"leaders_moved"`

	// At any time, to be compared with what was applied.
	acknowledgedEver, unknown uint64
}

// counted is what came of the proposals of one goroutine.
type counted struct {
	acknowledgedEver, unknown uint64
	errors                    map[string]int
	// In the measured time, in microseconds.
	latencies []uint32
}

// measure runs the load: the warm-up, the measured time, and the end of what is under way.
func measure(o options, hosts []*dragonboat.NodeHost, leaders []uint64) *result {
	var phase atomic.Int32
	var all sync.WaitGroup
	counts := make([]counted, o.inFlight)
	for i := range o.inFlight {
		group := i % o.groups
		host := hosts[leaders[group]-1]
		all.Add(1)
		go func() {
			defer all.Done()
			propose(host, uint64(group+1), o.valueSize, &phase, &counts[i])
		}()
	}
	time.Sleep(o.warmup)
	before := cpuSeconds()
	start := time.Now()
	phase.Store(measured)
	time.Sleep(o.duration)
	cpu := cpuSeconds() - before
	phase.Store(ending)
	seconds := time.Since(start).Seconds()
	all.Wait()
	return sum(counts, seconds, cpu)
}

// propose keeps one proposal under way until the run is ending.
func propose(host *dragonboat.NodeHost, group uint64, size int, phase *atomic.Int32, c *counted) {
	session := host.GetNoOPSession(group)
	value := make([]byte, size)
	for i := range value {
		value[i] = 'v'
	}
	c.errors = make(map[string]int)
	for phase.Load() != ending {
		start := time.Now()
		state, err := host.Propose(session, value, timeout)
		if err != nil {
			c.errors[err.Error()]++
			time.Sleep(backOff)
			continue
		}
		outcome := <-state.ResultC()
		switch {
		case outcome.Completed():
			c.acknowledgedEver++
			if phase.Load() == measured {
				c.latencies = append(c.latencies, uint32(time.Since(start).Microseconds()))
			}
		case outcome.Rejected(), outcome.Dropped():
			// The group has no leader at this moment: proposals at full speed would keep it from an election.
			c.errors["dropped or rejected"]++
			time.Sleep(backOff)
		default:
			c.errors["timed out, aborted or terminated"]++
			c.unknown++
		}
		state.Release()
	}
}

func sum(counts []counted, seconds, cpu float64) *result {
	r := &result{Seconds: seconds, Errors: make(map[string]int)}
	var latencies []uint32
	for _, c := range counts {
		r.acknowledgedEver += c.acknowledgedEver
		r.unknown += c.unknown
		latencies = append(latencies, c.latencies...)
		for class, count := range c.errors {
			r.Errors[class] += count
			r.NotAcknowledged += uint64(count)
		}
	}
	slices.Sort(latencies)
	r.Acknowledged = len(latencies)
	r.OpsPerSecond = float64(len(latencies)) / seconds
	if n := len(latencies); n > 0 {
		r.P50Micros = float64(latencies[n/2])
		r.P99Micros = float64(latencies[n*99/100])
		r.MaxMicros = float64(latencies[n-1])
		r.CPUMicrosPerOp = cpu * 1e6 / float64(n)
	}
	return r
}

// cpuSeconds is the processor time of this process so far.
func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(usage.Utime) + seconds(usage.Stime)
}

// compare asks each group how many commands it has applied.
func compare(o options, hosts []*dragonboat.NodeHost, r *result) error {
	var applied atomic.Uint64
	err := inParallel(o.groups, 64, func(i int) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		count, err := hosts[0].SyncRead(ctx, uint64(i+1), nil)
		if err != nil {
			return fmt.Errorf("group %d does not say what it has applied: %w", i+1, err)
		}
		applied.Add(count.(uint64))
		return nil
	})
	if err != nil {
		return err
	}
	if least, most := r.acknowledgedEver, r.acknowledgedEver+r.unknown; applied.Load() < least || applied.Load() > most {
		return fmt.Errorf("%d commands were applied, and %d to %d should have been", applied.Load(), least, most)
	}
	return nil
}

func report(o options, leaders []uint64, r *result) error {
	led := make([]int, nodes)
	for _, leader := range leaders {
		led[leader-1]++
	}
	fmt.Printf("load      dragonboat v4, log %s; %d groups, led %v; %d proposals of %d B under way; durable on two nodes\n"+
		"result    %.0f proposals a second, %d in %.2f s after %v of warm-up\n"+
		"latency   p50 %.3f ms, p99 %.3f ms, longest %.3f ms\n"+
		"processor %.2f µs a proposal, all nodes and the load\n",
		o.log, o.groups, led, o.inFlight, o.valueSize, r.OpsPerSecond, r.Acknowledged, r.Seconds, o.warmup,
		r.P50Micros/1e3, r.P99Micros/1e3, r.MaxMicros/1e3, r.CPUMicrosPerOp)
	for class, count := range r.Errors {
		fmt.Printf("error     %d × %s\n", count, class)
	}
	if r.LeadersMoved {
		fmt.Println("warning   a group has got another leader: its proposals were forwarded since then")
	}
	if r.Acknowledged == 0 {
		return errors.New("nothing was acknowledged")
	}
	if o.json == "" {
		return nil
	}
	text, err := json.MarshalIndent(map[string]any{"version": 1, "result": r}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.json, append(text, '\n'), 0o644)
}
