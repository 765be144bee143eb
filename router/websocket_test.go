package router

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// serverFrame is a frame as servers send it, with a payload of n bytes that look like anything.
func serverFrame(n int, masked bool) []byte {
	frame := []byte{0x82, 0}
	switch {
	case n > 0xffff:
		frame[1] = 127
		frame = binary.BigEndian.AppendUint64(frame, uint64(n))
	case n > 125:
		frame[1] = 126
		frame = binary.BigEndian.AppendUint16(frame, uint16(n))
	default:
		frame[1] = byte(n)
	}
	if masked {
		frame[1] |= 0x80
		frame = append(frame, 1, 2, 3, 4)
	}
	for range n {
		frame = append(frame, byte(rand.Uint32()))
	}
	return frame
}

// However a connection's bytes are cut up, the places between two frames are found, and no others.
func TestPlacesBetweenFramesAreFound(t *testing.T) {
	var wire []byte
	between := map[int]bool{}
	wire = append(wire, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nX: \r\r\n\r\n"...)
	between[len(wire)] = true
	for _, n := range []int{0, 1, 125, 126, 127, 300, 0xffff, 0x10000, 0x12345, 0, 5} {
		for _, masked := range []bool{false, true} {
			wire = append(wire, serverFrame(n, masked)...)
			between[len(wire)] = true
		}
	}
	for range 50 {
		var f frameReader
		for at := 0; at < len(wire); {
			n := min(1+rand.IntN(1<<rand.IntN(17)), len(wire)-at)
			rest := f.rest(wire[at : at+n])
			if f.between() && rest != 0 {
				t.Fatalf("at %d nothing is under way, but %d bytes of it are to come", at, rest)
			}
			if want := nextPlace(between, at, n); rest != want {
				t.Fatalf("at %d: %d bytes of %d belong to what is under way, want %d", at, rest, n, want)
			}
			f.pass(wire[at : at+n])
			at += n
			if f.between() != between[at] {
				t.Fatalf("after %d bytes: between frames %v, want %v", at, f.between(), between[at])
			}
		}
	}
}

func nextPlace(between map[int]bool, at, n int) int {
	for i := range n {
		if between[at+i] {
			return i
		}
	}
	return n
}

// Bytes that are no frames lead nowhere bad.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("HTTP/1.1 101 x\r\n\r\n\x82\x05hello\x88\x00"), 3)
	f.Add([]byte("\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), 1)
	f.Fuzz(func(t *testing.T, wire []byte, at int) {
		if at < 0 || at > len(wire) {
			at = len(wire) / 2
		}
		var whole, parts frameReader
		whole.pass(wire)
		parts.pass(wire[:at])
		if rest := parts.rest(wire[at:]); rest < 0 || rest > len(wire)-at {
			t.Fatalf("%d of %d bytes", rest, len(wire)-at)
		}
		parts.pass(wire[at:])
		if whole != parts {
			t.Fatalf("read at once %+v, in two parts %+v", whole, parts)
		}
	})
}
