package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
)

// certificate is the key pair that handshakes use; another can be put in force while they go on.
type certificate struct {
	current atomic.Pointer[tls.Certificate]
}

// use puts a pair in force.
func (c *certificate) use(pair *tls.Certificate) { c.current.Store(pair) }

// config is what listeners with TLS use. HTTP/2 is offered (RFC 9113 section 3.2).
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}

// readPair says which file is at fault, and nothing of what is in it.
func readPair(certFile, keyFile string) (*tls.Certificate, error) {
	certPEM, certErr := os.ReadFile(certFile)
	if certErr != nil {
		certErr = fmt.Errorf("tls.cert_file: cannot be read: %w", pathless(certErr))
	}
	keyPEM, keyErr := os.ReadFile(keyFile)
	if keyErr != nil {
		keyErr = fmt.Errorf("tls.key_file: cannot be read: %w", pathless(keyErr))
	}
	if err := errors.Join(certErr, keyErr); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, errors.New("tls: cert_file and key_file are no pair: want a PEM certificate chain and its unencrypted key")
	}
	return &pair, nil
}
