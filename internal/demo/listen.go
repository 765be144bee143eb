package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/tenantgate/tenantgate"
)

// port is an address that is ours.
type port struct {
	listener net.Listener
	address  string // host:port as it was bound
	url      string // as a browser writes it, with the host that was asked for
}

type ports struct{ proxy, provider, app, admin, stripe *port }

func (p *ports) close() {
	for _, one := range []*port{p.proxy, p.provider, p.app, p.admin, p.stripe} {
		if one != nil {
			_ = one.listener.Close()
		}
	}
}

// bind takes all addresses or none.
func bind(ctx context.Context, opts Options) (*ports, error) {
	listen := opts.Listen
	if listen == "" {
		listen = DefaultListen
	}
	host, text, err := net.SplitHostPort(listen)
	number, numeric := strconv.Atoi(text)
	if err != nil || numeric != nil {
		return nil, fmt.Errorf("%w: --listen %s: give host:port, such as %s", ErrUsage, listen, DefaultListen)
	}
	if !loopback(host) {
		return nil, fmt.Errorf("%w: --listen %s: the demo has no passwords and stands on loopback only, such as %s", ErrUsage, listen, DefaultListen)
	}
	p := new(ports)
	for _, want := range []struct {
		flag   string
		number int
		to     **port
	}{
		{"--listen", number, &p.proxy},
		{"--provider-port", opts.ProviderPort, &p.provider},
		{"--app-port", opts.AppPort, &p.app},
		{"--admin-port", opts.AdminPort, &p.admin},
		{"--stripe-port", opts.StripePort, &p.stripe},
	} {
		if *want.to, err = bindOne(ctx, want.flag, host, want.number); err != nil {
			p.close()
			return nil, err
		}
	}
	return p, nil
}

func bindOne(ctx context.Context, flag, host string, number int) (*port, error) {
	if number < 0 || number > 65535 {
		return nil, fmt.Errorf("%w: %s %d: a port is between 0 and 65535", ErrUsage, flag, number)
	}
	shown := strconv.Itoa(number)
	if flag == "--listen" {
		shown = net.JoinHostPort(host, shown)
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(number)))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s %s is taken: end the program that has it, or give another with %s", flag, shown, flag)
	case err != nil:
		return nil, fmt.Errorf("%s %s cannot be used: %w", flag, shown, err)
	}
	address := listener.Addr().String()
	_, bound, err := net.SplitHostPort(address)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return &port{listener: listener, address: address, url: "http://" + net.JoinHostPort(host, bound)}, nil
}

// loopback reports whether host leads to this machine alone.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback() && ip.Zone() == ""
}

func newServer(base context.Context, gate *tenantgate.Gate, handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(gate.Logger().Handler(), slog.LevelWarn),
	}
}
