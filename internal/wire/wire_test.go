package wire

import (
	"bufio"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echoServer sends every line back.
func echoServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	return l.Addr().String()
}

func TestAWireCanBeCutFrozenAndHealed(t *testing.T) {
	w, err := New(echoServer(t))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	dial := func() (net.Conn, *bufio.Reader) {
		c, err := net.Dial("tcp", w.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c, bufio.NewReader(c)
	}
	say := func(c net.Conn, text string) {
		if _, err := io.WriteString(c, text+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	hears := func(c net.Conn, in *bufio.Reader, text string) {
		t.Helper()
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if line, err := in.ReadString('\n'); err != nil || line != text+"\n" {
			t.Fatalf("%q %v, want %s", line, err, text)
		}
	}
	c, in := dial()
	say(c, "one")
	hears(c, in, "one")

	w.Freeze()
	say(c, "two")
	late, lateIn := dial()
	say(late, "new")
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if line, err := in.ReadString('\n'); err == nil {
		t.Fatalf("a frozen wire passed %q", line)
	}
	w.Heal()
	hears(c, in, "two")
	hears(late, lateIn, "new")

	w.Cut()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := in.ReadByte(); err == nil {
		t.Fatal("a cut wire passed something")
	}
	refused, refusedIn := dial()
	_ = refused.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := refusedIn.ReadByte(); err == nil {
		t.Fatal("a cut wire answered")
	}
	w.Heal()
	c, in = dial()
	say(c, "three")
	hears(c, in, "three")
	w.Drop()
	c, in = dial()
	say(c, "four")
	hears(c, in, "four")
}
