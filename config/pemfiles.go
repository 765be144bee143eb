package config

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
)

// checkFiles reads every certificate and key that c names, so that one which cannot be used is a fault beside the
// others and not a surprise later (FAIL-1). What is read is thrown away: who uses a file reads it.
func (c *Config) checkFiles(read func(string) ([]byte, error), found *findings) {
	f := pemFiles{read: read, src: c.src, found: found}
	f.pair("tls", c.TLS.CertFile, c.TLS.KeyFile)
	for i := range c.Identity.Providers {
		f.roots(indexPath("identity.providers", i), c.Identity.Providers[i].CAFile)
	}
	for _, name := range sortedKeys(c.Upstreams) {
		u, path := c.Upstreams[name], childPath("upstreams", showKey(name))
		f.roots(path, u.CAFile)
		f.pair(path, u.CertFile, u.KeyFile)
	}
}

type pemFiles struct {
	read  func(string) ([]byte, error)
	src   *sources
	found *findings
}

func (f pemFiles) content(path, file string) ([]byte, bool) {
	content, err := f.read(file)
	if err != nil {
		f.found.add(f.src.fault(path, "the file cannot be read: "+reason(err)))
	}
	return content, err == nil
}

func (f pemFiles) roots(path, file string) {
	if file == "" {
		return
	}
	path += ".ca_file"
	if pem, ok := f.content(path, file); ok && !x509.NewCertPool().AppendCertsFromPEM(pem) {
		f.found.add(f.src.fault(path, "the file holds no PEM certificate"))
	}
}

func (f pemFiles) pair(path, certFile, keyFile string) {
	if certFile == "" || keyFile == "" {
		return // one alone is Validate's
	}
	cert, certRead := f.content(path+".cert_file", certFile)
	key, keyRead := f.content(path+".key_file", keyFile)
	if !certRead || !keyRead {
		return
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		// The package's texts speak of PEM, keys and certificates, and never repeat what stands in them.
		f.found.add(f.src.fault(path+".cert_file", "the certificate and key_file do not go together: "+strings.TrimPrefix(err.Error(), "tls: ")))
	}
}
