package faultwire

import (
	"io"
	"net"
	"testing"
	"time"
)

// echo is a server that sends back what it gets.
func echo(t *testing.T) string {
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
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

func dial(t *testing.T, w *Wire) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", w.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// says sends a word and reads it back, within a time.
func says(t *testing.T, c net.Conn, word string, within time.Duration) error {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte(word)); err != nil {
		return err
	}
	back := make([]byte, len(word))
	if _, err := io.ReadFull(c, back); err != nil {
		return err
	}
	if string(back) != word {
		t.Errorf("%q came back as %q", word, back)
	}
	return nil
}

const patience = time.Minute

func TestWireFreezesCutsAndHeals(t *testing.T) {
	w := New(t, echo(t))
	c := dial(t, w)
	if err := says(t, c, "whole", patience); err != nil {
		t.Fatal(err)
	}
	w.Freeze()
	if err := says(t, c, "frozen", 30*time.Millisecond); err == nil {
		t.Error("a frozen wire let a word through")
	}
	late := dial(t, w)
	if err := says(t, late, "late", 30*time.Millisecond); err == nil {
		t.Error("a frozen wire answered a new connection")
	}
	w.Heal()
	for conn, word := range map[net.Conn]string{c: "frozen", late: "late"} {
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		back := make([]byte, len(word))
		if _, err := io.ReadFull(conn, back); err != nil || string(back) != word {
			t.Errorf("after healing: %q, %v", back, err)
		}
	}
	w.Cut()
	if err := says(t, c, "cut", patience); err == nil {
		t.Error("a cut connection lives")
	}
	if err := says(t, dial(t, w), "cut", patience); err == nil {
		t.Error("a cut wire took a connection")
	}
	w.Heal()
	c = dial(t, w)
	if err := says(t, c, "healed", patience); err != nil {
		t.Error(err)
	}
	w.Drop()
	if err := says(t, c, "dropped", patience); err == nil {
		t.Error("a dropped connection lives")
	}
	if err := says(t, dial(t, w), "next", patience); err != nil {
		t.Error(err)
	}
}

func TestClosingAFrozenWireEnds(t *testing.T) {
	w := New(t, echo(t))
	c := dial(t, w)
	w.Freeze()
	_ = says(t, c, "x", 20*time.Millisecond)
	w.Close()
	w.Close()
	if n := w.Conns(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}
