package freshness

import (
	"net/http"

	"golang.org/x/net/websocket"
)

// echoFrames is the app's end of a WebSocket: it greets, and sends back what it is sent.
func echoFrames(w http.ResponseWriter, r *http.Request) {
	websocket.Handler(func(conn *websocket.Conn) {
		if websocket.Message.Send(conn, "hello") != nil {
			return
		}
		var said string
		for websocket.Message.Receive(conn, &said) == nil && websocket.Message.Send(conn, said) == nil {
			continue
		}
	}).ServeHTTP(w, r)
}
