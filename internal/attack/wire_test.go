package attack

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/router"
)

// patience bounds every wait on a connection; hour is how long credentials are good.
const (
	patience = 2 * time.Minute
	hour     = time.Hour
)

// received is one request as its bytes reached the app.
type received struct {
	line     string   // GET /x HTTP/1.1
	fields   []string // header lines as sent
	body     string   // decoded
	trailers []string // trailer lines as sent
	raw      string   // every byte
}

// target is the request line's second word.
func (r received) target() string {
	_, rest, _ := strings.Cut(r.line, " ")
	target, _, _ := strings.Cut(rest, " ")
	return target
}

// values are those of a field, by exact name but for ASCII case.
func (r received) values(name string) []string {
	var list []string
	for _, f := range r.fields {
		k, v, _ := strings.Cut(f, ":")
		if strings.EqualFold(k, name) {
			list = append(list, strings.TrimSpace(v))
		}
	}
	return list
}

// rawApp is an app that keeps every byte that it gets and answers with bytes of the test's choice. It reads messages
// by RFC 9112 and takes what does not follow for a request of its own, as a lenient server would.
type rawApp struct {
	listener net.Listener
	wait     sync.WaitGroup

	mu     sync.Mutex
	got    []received
	conns  map[net.Conn]bool
	closed bool
	// answer makes the response; nil: 200 "ok". It may write to conn itself and return "".
	answer func(r received, conn net.Conn, br *bufio.Reader) string
}

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"

func newRawApp(t testing.TB) *rawApp {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &rawApp{listener: l, conns: map[net.Conn]bool{}}
	a.wait.Go(a.accept)
	t.Cleanup(a.close)
	return a
}

// behind makes the gates of a configuration forward to a.
func (a *rawApp) behind(then func(*config.Config)) func(*config.Config) {
	return func(c *config.Config) {
		c.Upstreams = map[string]router.UpstreamConfig{"app": {URLs: []string{"http://" + a.listener.Addr().String()}}}
		if then != nil {
			then(c)
		}
	}
}

func (a *rawApp) accept() {
	for {
		conn, err := a.listener.Accept()
		if err != nil {
			return
		}
		a.mu.Lock()
		if a.closed {
			a.mu.Unlock()
			_ = conn.Close()
			return
		}
		a.conns[conn] = true
		a.mu.Unlock()
		a.wait.Go(func() { a.serve(conn) })
	}
}

func (a *rawApp) serve(conn net.Conn) {
	defer func() {
		_ = conn.Close()
		a.mu.Lock()
		delete(a.conns, conn)
		a.mu.Unlock()
	}()
	var seen bytes.Buffer
	br := bufio.NewReader(io.TeeReader(conn, &seen))
	for {
		r, err := readMessage(br)
		if err != nil {
			if r.line != "" { // half a request is one too
				r.raw = seen.String()
				a.keep(r)
			}
			return
		}
		used := seen.Len() - br.Buffered()
		r.raw = string(seen.Next(used))
		a.keep(r)
		a.mu.Lock()
		answer := a.answer
		a.mu.Unlock()
		out := okAnswer
		if strings.HasPrefix(r.line, "HEAD ") {
			out = strings.TrimSuffix(out, "ok")
		}
		if answer != nil {
			out = answer(r, conn, br)
		}
		responseHead, _, _ := strings.Cut(out, "\r\n\r\n")
		if _, err := io.WriteString(conn, out); err != nil || strings.Contains(responseHead, "Connection: close") || out == "" {
			return
		}
	}
}

func (a *rawApp) keep(r received) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.got = append(a.got, r)
}

// take returns what has come since the last take.
func (a *rawApp) take() []received {
	a.mu.Lock()
	defer a.mu.Unlock()
	got := a.got
	a.got = nil
	return got
}

// answers replaces how the app answers.
func (a *rawApp) answers(f func(r received, conn net.Conn, br *bufio.Reader) string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = f
}

// says makes the app answer everything with these bytes.
func (a *rawApp) says(raw string) {
	a.answers(func(received, net.Conn, *bufio.Reader) string { return raw })
}

func (a *rawApp) close() {
	_ = a.listener.Close()
	a.mu.Lock()
	a.closed = true
	for conn := range a.conns {
		_ = conn.Close()
	}
	a.mu.Unlock()
	a.wait.Wait()
}

// readMessage reads one request. Its line is set as soon as there is one.
func readMessage(br *bufio.Reader) (r received, err error) {
	if r.line, err = readLine(br); err != nil {
		return r, err
	}
	length, chunked := 0, false
	for {
		line, err := readLine(br)
		if err != nil {
			return r, err
		}
		if line == "" {
			break
		}
		r.fields = append(r.fields, line)
		name, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "content-length":
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return r, err
			}
		case "transfer-encoding":
			chunked = true
		}
	}
	if chunked {
		return r, r.readChunks(br)
	}
	body := make([]byte, length)
	_, err = io.ReadFull(br, body)
	r.body = string(body)
	return r, err
}

func (r *received) readChunks(br *bufio.Reader) error {
	for {
		line, err := readLine(br)
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(line, 16, 32)
		if err != nil {
			return fmt.Errorf("chunk size %q: %w", line, err)
		}
		if n == 0 {
			break
		}
		chunk := make([]byte, n+2)
		if _, err := io.ReadFull(br, chunk); err != nil {
			return err
		}
		r.body += string(chunk[:n])
	}
	for {
		line, err := readLine(br)
		if err != nil || line == "" {
			return err
		}
		r.trailers = append(r.trailers, line)
	}
}

func readLine(br *bufio.Reader) (string, error) {
	line, err := br.ReadString('\n')
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), nil
}

// send writes bytes to the gate and returns everything that it answers until it closes the connection. The last
// request in raw should therefore say Connection: close, or be one that the gate does not go on after.
func send(t testing.TB, addr, raw string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, raw); err != nil && !isReset(err) {
		t.Fatal(err)
	}
	all, err := io.ReadAll(conn)
	if err != nil && !isReset(err) {
		t.Fatalf("the gate answered %.300q and then: %v", all, err)
	}
	return string(all)
}

// sendAll is send for attacks behind which the gate may wait for more: it ends with a request that closes the
// connection, and does not wait for long if that is swallowed.
func sendAll(t testing.TB, addr, raw string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, raw+head("GET /_gate/ping HTTP/1.1", "Host: localhost")); err != nil && !isReset(err) {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(time.Second))
	all, _ := io.ReadAll(conn)
	return string(all)
}

// isReset: a server that refuses a request need not read the rest of it, and then resets.
func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && !op.Timeout()
}

// first reads the first response out of what send returned.
func first(t testing.TB, raw string) answer {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(raw)), nil)
	if err != nil {
		t.Fatalf("no response in %q: %v", raw, err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body) // a response that was cut off is one too
	return answer{res.StatusCode, res.Header, string(body)}
}

// head joins a request line and fields into a request's head.
func head(line string, fields ...string) string {
	return line + "\r\n" + strings.Join(append(fields, "Connection: close", "", ""), "\r\n")
}

// fold is what CGI, WSGI, Rack, PHP and the like make of a field's name, at their laxest: upper case, and "_" for
// whatever is no letter or digit.
func fold(name string) string {
	b := []byte(strings.ToUpper(name))
	for i, c := range b {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			b[i] = '_'
		}
	}
	return string(b)
}
