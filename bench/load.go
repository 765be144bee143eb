package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// target is where the load goes: head is the whole request.
type target struct {
	addr string
	head string
}

const plainHead = "GET /bench HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"

// sample is one variant in one round.
type sample struct {
	requests int
	elapsed  time.Duration
	p50, p99 time.Duration
	cpu      time.Duration // of the proxy, a request
	allocs   float64       // of the proxy, a request
	bytes    float64       // of the proxy, a request
}

func (s sample) rate() float64 {
	if s.elapsed == 0 {
		return 0
	}
	return float64(s.requests) / s.elapsed.Seconds()
}

// load sends requests over a fixed number of connections, each waiting for its answer before it sends again.
func load(ctx context.Context, s settings, t target) (sample, error) {
	type result struct {
		took []time.Duration
		err  error
	}
	results := make([]result, s.connections)
	var wg sync.WaitGroup
	start := time.Now()
	deadline := start.Add(s.duration)
	for i := range results {
		wg.Go(func() { results[i].took, results[i].err = loadOne(ctx, t, deadline) })
	}
	wg.Wait()
	out := sample{elapsed: time.Since(start)}
	var all []time.Duration
	for _, r := range results {
		if r.err != nil {
			return sample{}, r.err
		}
		all = append(all, r.took...)
	}
	if len(all) == 0 {
		return sample{}, errors.New("no request was answered")
	}
	slices.Sort(all)
	out.requests, out.p50, out.p99 = len(all), all[len(all)/2], all[len(all)*99/100]
	return out, nil
}

func loadOne(ctx context.Context, t target, deadline time.Time) ([]time.Duration, error) {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", t.addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := conn.SetDeadline(deadline.Add(10 * time.Second)); err != nil {
		return nil, err
	}
	head := []byte(t.head)
	in := bufio.NewReaderSize(conn, 8<<10)
	took := make([]time.Duration, 0, 1<<14)
	for {
		begin := time.Now()
		if begin.After(deadline) {
			return took, nil
		}
		if _, err := conn.Write(head); err != nil {
			return nil, err
		}
		if err := readResponse(in); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begin))
	}
}

var contentLength = []byte("content-length:")

// readResponse reads one response with a Content-Length and wants it to be a 200.
func readResponse(in *bufio.Reader) error {
	status, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if len(status) < 12 || string(status[9:12]) != "200" {
		return fmt.Errorf("answer is %q", bytes.TrimSpace(status))
	}
	length := -1
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if len(line) > len(contentLength) && bytes.EqualFold(line[:len(contentLength)], contentLength) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(contentLength):]))); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return errors.New("answer has no Content-Length")
	}
	_, err = in.Discard(length)
	return err
}

// app answers every request with the same 200 and a small body.
type app struct {
	listener net.Listener
	wg       sync.WaitGroup
	mu       sync.Mutex
	conns    map[net.Conn]bool
}

const appAnswer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n{\"rows\":[1,2,3],\"ok\":true}\n"

func startApp() (*app, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &app{listener: l, conns: map[net.Conn]bool{}}
	a.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			a.keep(conn, true)
			a.wg.Go(func() {
				defer a.keep(conn, false)
				a.answer(conn)
			})
		}
	})
	return a, nil
}

func (a *app) addr() string { return a.listener.Addr().String() }

func (a *app) keep(c net.Conn, open bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if open {
		a.conns[c] = true
		return
	}
	delete(a.conns, c)
	_ = c.Close()
}

func (a *app) answer(conn net.Conn) {
	in := bufio.NewReaderSize(conn, 8<<10)
	out := []byte(appAnswer)
	for {
		for {
			line, err := in.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) <= 2 {
				break
			}
		}
		if _, err := conn.Write(out); err != nil && !errors.Is(err, io.EOF) {
			return
		}
	}
}

func (a *app) close() {
	_ = a.listener.Close()
	a.mu.Lock()
	for c := range a.conns {
		_ = c.Close()
	}
	a.mu.Unlock()
	a.wg.Wait()
}

func medians(s []sample) sample {
	if len(s) == 0 {
		return sample{}
	}
	pick := func(f func(sample) float64) float64 { return median(s, f) }
	return sample{
		requests: int(pick(sample.rate)), elapsed: time.Second,
		p50: time.Duration(pick(func(s sample) float64 { return float64(s.p50) })),
		p99: time.Duration(pick(func(s sample) float64 { return float64(s.p99) })),
		cpu: time.Duration(pick(func(s sample) float64 { return float64(s.cpu) })),

		allocs: pick(func(s sample) float64 { return s.allocs }),
		bytes:  pick(func(s sample) float64 { return s.bytes }),
	}
}

func median(s []sample, f func(sample) float64) float64 {
	v := make([]float64, len(s))
	for i := range s {
		v[i] = f(s[i])
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// medianRatio is the median over the rounds of a's figure by b's in the same round.
func medianRatio(a, b []sample, f func(sample) float64) float64 {
	var v []float64
	for i := range min(len(a), len(b)) {
		if f(b[i]) > 0 {
			v = append(v, f(a[i])/f(b[i]))
		}
	}
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[len(v)/2]
}
