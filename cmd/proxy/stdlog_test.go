package main

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/telemetry"
)

// lines hands on what is written.
type lines chan string

func (c lines) Write(p []byte) (int, error) {
	c <- string(p)
	return len(p), nil
}

// LEAK-3: an app sends its tenant's URI after the end of an answer, and net/http's client prints it.
func TestURIAfterAnAnswerDoesNotReachStandardError(t *testing.T) {
	printed := make(lines, 8)
	before := log.Writer()
	log.SetOutput(telemetry.UnquotedWriter(printed))
	defer log.SetOutput(before)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ended := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokpostgresql://u:p%40CANARY-7@db.internal:5432/d\r\n")
			err = conn.Close()
		}
		ended <- err
	}()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.Addr().String(), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != "ok" {
		t.Fatalf("%q, %v", body, err)
	}
	select {
	case line := <-printed:
		if !strings.Contains(line, "Unsolicited response") || !strings.Contains(line, "***") || strings.Contains(line, "CANARY") {
			t.Errorf("printed: %s", line)
		}
	case <-ctx.Done():
		t.Fatal("net/http printed nothing: is what it does with surplus bytes another thing now?")
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
