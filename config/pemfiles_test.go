package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

// selfSigned makes a certificate and its key.
func selfSigned(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

// A certificate, key or list of roots that cannot be used stops the start (FAIL-1).
func TestCertificatesThatCannotBeUsedAreFaults(t *testing.T) {
	cert, key := selfSigned(t)
	_, otherKey := selfSigned(t)
	disk := files{"/run/key": masterSecret, "/cert": cert, "/key": key, "/other": otherKey, "/empty": "", "/text": "hello"}
	tests := []struct {
		name, text string
		want       []string
	}{
		{"good pair", "tls: {cert_file: /cert, key_file: /key}\n", nil},
		{"certificate is not there", "tls: {cert_file: /none, key_file: /key}\n", []string{"c:5:18: tls.cert_file: the file cannot be read: file does not exist"}},
		{"neither is there", "tls: {cert_file: /none, key_file: /none}\n", []string{"c:5:18: tls.cert_file: the file cannot be read", "c:5:35: tls.key_file: the file cannot be read"}},
		{"key of another certificate", "tls: {cert_file: /cert, key_file: /other}\n", []string{"c:5:18: tls.cert_file: the certificate and key_file do not go together: private key does not match public key"}},
		{"empty key", "tls: {cert_file: /cert, key_file: /empty}\n", []string{"c:5:18: tls.cert_file: the certificate and key_file do not go together"}},
		{"upstream", "upstreams: {a: {urls: [\"https://a\"], ca_file: /text, cert_file: /text, key_file: /key}}\n", []string{
			"c:5:47: upstreams.a.ca_file: the file holds no PEM certificate", "c:5:65: upstreams.a.cert_file: the certificate and key_file do not go together",
		}},
		{"good upstream", "upstreams: {a: {urls: [\"https://a\"], ca_file: /cert, cert_file: /cert, key_file: /key}}\n", nil},
		{"provider", strings.Replace(provider, "}]}", ", ca_file: /empty}]}", 1), []string{"c:5:102: identity.providers[0].ca_file: the file holds no PEM certificate"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			disk["c"] = at(tt.text)
			_, err := Load(t.Context(), LoadOptions{Path: "c", Environ: []string{}, ReadFile: disk.read})
			got := lines(t, err)
			if !slices.EqualFunc(got, tt.want, strings.HasPrefix) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}
