package telemetry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// The exporter reads OTEL_EXPORTER_OTLP_* itself, but what it cannot read it prints, value and all, to a logger that
// is global to the process, and goes on without: a collector's key in plain sight, a wrong CA taken for none. So every
// variable is read here first, and a bad one stops the start with an error that names it and not its value.

// prefixes of the exporter's variables: for all signals and for traces alone.
func exporterPrefixes() []string {
	return []string{"OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_TRACES_"}
}

// checkCollector reads the exporter's environment and registers its secrets.
func checkCollector(redact *Redactor) error {
	var faults []error
	for _, prefix := range exporterPrefixes() {
		faults = append(faults,
			checkVariable(prefix+"ENDPOINT", "must be an http:// or https:// URL", func(v string) bool { return validEndpoint(v, redact) }),
			checkVariable(prefix+"HEADERS", "must be name=value pairs separated by commas, values percent-encoded", func(v string) bool { return validHeaders(v, redact) }),
			checkVariable(prefix+"TIMEOUT", "must be a number of milliseconds", validNumber),
			checkVariable(prefix+"CERTIFICATE", "must name a readable file of PEM certificates", validCertificates),
			checkClientCertificate(prefix),
		)
	}
	return errors.Join(faults...)
}

func checkVariable(name, rule string, valid func(string) bool) error {
	if v := strings.TrimSpace(os.Getenv(name)); v != "" && !valid(v) {
		return fmt.Errorf("%s: %s", name, rule)
	}
	return nil
}

func validEndpoint(v string, redact *Redactor) bool {
	u, err := url.Parse(v)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return false
	}
	if password, ok := u.User.Password(); ok {
		redact.Add(password)
	}
	return true
}

func validHeaders(v string, redact *Redactor) bool {
	for pair := range strings.SplitSeq(v, ",") {
		name, value, ok := strings.Cut(pair, "=")
		if _, err := url.PathUnescape(value); !ok || err != nil || !httpguts.ValidHeaderFieldName(strings.TrimSpace(name)) {
			return false
		}
		redact.Add(strings.TrimSpace(value))
	}
	return true
}

func validNumber(v string) bool {
	n, err := strconv.Atoi(v)
	return err == nil && n >= 0
}

func validCertificates(v string) bool {
	pem, err := os.ReadFile(v)
	return err == nil && x509.NewCertPool().AppendCertsFromPEM(pem)
}

func checkClientCertificate(prefix string) error {
	cert, key := prefix+"CLIENT_CERTIFICATE", prefix+"CLIENT_KEY"
	certFile, keyFile := strings.TrimSpace(os.Getenv(cert)), strings.TrimSpace(os.Getenv(key))
	if certFile == "" && keyFile == "" {
		return nil
	}
	if _, err := tls.LoadX509KeyPair(certFile, keyFile); err != nil {
		return fmt.Errorf("%s and %s: must name readable PEM files of one certificate and its key", cert, key)
	}
	return nil
}
