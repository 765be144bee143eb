package router

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// closeWait is how long a frame that is being sent may take to end before its connection is cut all the same.
	closeWait = 25 * time.Millisecond
	// closeLinger is how long the client has to take the close frame and close.
	closeLinger = time.Second
	// policyViolation is WebSocket's status code 1008 (RFC 6455 7.4.1).
	policyViolation = 1008
)

// framedConn is the client's end of a WebSocket. It follows the frames that are sent to the client, so that a close
// frame can be put between two of them (RFC 6455 5.5.1). Once it is closed by us nothing of the client reaches the app.
type framedConn struct {
	net.Conn
	used func() // bytes came from the client

	writing sync.Mutex // held while bytes are sent
	frames  frameReader
	closing atomic.Pointer[[]byte] // the close frame to be sent
	sent    atomic.Bool            // it was, or the connection is cut: nothing follows
	finish  func()                 // called once nothing follows
}

// hijacked wraps what http.Hijacker returned: what is written through rw passes the framedConn too.
func hijacked(conn net.Conn, rw *bufio.ReadWriter, used func()) *framedConn {
	c := &framedConn{Conn: conn, used: used}
	rw.Writer.Reset(c)
	early := make([]byte, rw.Reader.Buffered())
	n, _ := io.ReadFull(rw.Reader, early) // they are in memory
	rw.Reader.Reset(io.MultiReader(bytes.NewReader(early[:n]), c))
	return c
}

// Read implements io.Reader. What comes after the close is thrown away.
func (c *framedConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if c.closing.Load() == nil {
			if n > 0 {
				c.used()
			}
			return n, err
		}
		if err != nil {
			return 0, err
		}
	}
}

// Write implements io.Writer.
func (c *framedConn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	written := 0
	for written < len(p) {
		if c.sent.Load() {
			return written, errCut
		}
		part := p[written:]
		if c.closing.Load() != nil {
			if c.frames.between() {
				c.sendClose()
				return written, errCut
			}
			part = part[:c.frames.rest(part)]
		}
		n, err := c.Conn.Write(part)
		c.frames.pass(part[:n])
		written += n
		if err != nil {
			return written, err
		}
	}
	if c.closing.Load() != nil && c.frames.between() {
		c.sendClose()
	}
	return written, nil
}

// end sends the close frame as soon as no frame is under way, and cuts the connection where that takes too long.
func (c *framedConn) end(code Code, finish func()) {
	reason := string(code)
	frame := make([]byte, 4, 4+len(reason))
	frame[0], frame[1] = 0x88, byte(2+len(reason)) // FIN and opcode 8; unmasked, at most 125 bytes
	binary.BigEndian.PutUint16(frame[2:], policyViolation)
	frame = append(frame, reason...)
	c.finish = finish
	if !c.closing.CompareAndSwap(nil, &frame) {
		return
	}
	if c.writing.TryLock() {
		if c.frames.between() {
			c.sendClose()
		}
		c.writing.Unlock()
	}
	if !c.sent.Load() {
		time.AfterFunc(closeWait, c.sever)
	}
}

// sendClose sends the close frame; writing is held.
func (c *framedConn) sendClose() {
	if c.sent.Swap(true) {
		return
	}
	_ = c.Conn.SetWriteDeadline(time.Now().Add(closeWait))
	_, err := c.Conn.Write(*c.closing.Load())
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && err == nil {
		_ = half.CloseWrite()
		_ = c.Conn.SetReadDeadline(time.Now().Add(closeLinger))
	} else {
		_ = c.Conn.Close()
	}
	c.finish()
}

// sever ends the connection in the middle of a frame.
func (c *framedConn) sever() {
	if !c.sent.Swap(true) {
		_ = c.Conn.Close()
		c.finish()
	}
}

// Close implements io.Closer. Where a close frame was sent, the client gets a moment to take it: closing over bytes
// that were not read would reset the connection and lose the frame.
func (c *framedConn) Close() error {
	if c.closing.Load() != nil && c.sent.Load() {
		_ = c.Conn.SetReadDeadline(time.Now().Add(closeLinger))
		_, _ = io.Copy(io.Discard, c.Conn)
	}
	return c.Conn.Close()
}

// CloseWrite lets the end of what the app sends reach the client before the client is done.
func (c *framedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && !c.sent.Load() {
		return half.CloseWrite()
	}
	return c.Close()
}

// frameReader follows the response's head and then the frames of one direction (RFC 6455 5.2) by their lengths. It holds
// no payload.
type frameReader struct {
	framed bool   // the head is over
	tail   uint32 // the last four bytes of the head
	header [14]byte
	have   int    // bytes of header
	left   uint64 // bytes of payload to come
}

const headEnd = '\r'<<24 | '\n'<<16 | '\r'<<8 | '\n'

// between reports whether nothing is under way: a control frame may follow.
func (f *frameReader) between() bool { return f.framed && f.have == 0 && f.left == 0 }

// rest is how many bytes of p belong to the frame, or the head, that is under way; all of them where its end is not in p.
func (f *frameReader) rest(p []byte) int {
	look := *f
	for n := range p {
		if look.between() {
			return n
		}
		look.pass(p[n : n+1])
	}
	return len(p)
}

// pass takes bytes that were sent.
func (f *frameReader) pass(p []byte) {
	for len(p) > 0 {
		switch {
		case !f.framed:
			f.tail = f.tail<<8 | uint32(p[0])
			f.framed = f.tail == headEnd
			p = p[1:]
		case f.left > 0:
			n := min(f.left, uint64(len(p)))
			f.left -= n
			p = p[n:]
		default:
			f.header[f.have] = p[0]
			f.have++
			p = p[1:]
			if length, ok := f.length(); ok {
				f.have, f.left = 0, length
			}
		}
	}
}

// length is the payload's, once the whole header is there.
func (f *frameReader) length() (uint64, bool) {
	if f.have < 2 {
		return 0, false
	}
	size, wide := 2, f.header[1]&0x7f
	switch wide {
	case 126:
		size = 4
	case 127:
		size = 10
	}
	if f.header[1]&0x80 != 0 {
		size += 4 // masked: not what a server sends, but not ours to judge
	}
	if f.have < size {
		return 0, false
	}
	switch wide {
	case 126:
		return uint64(binary.BigEndian.Uint16(f.header[2:])), true
	case 127:
		return binary.BigEndian.Uint64(f.header[2:]), true
	}
	return uint64(wide), true
}
