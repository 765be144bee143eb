package catalog

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// Kinds of domains.
const (
	// KindSlug is one label: it names a tenant below base_domain, in paths, headers and claims.
	KindSlug = "slug"
	// KindHost is a whole host of the tenant's own, used once it is verified.
	KindHost = "host"
)

// Domain is a row of core_tenant_domains: a slug or a custom host that names one tenant.
type Domain struct {
	Host     DomainName `json:"host"`
	TenantID TenantID   `json:"tenant_id"`
	Kind     string     `json:"kind"`     // "slug" or "host"; made of the host where empty
	Verified bool       `json:"verified"` // a custom host is used only once verified; a slug always is
	// Challenge is what the host's TXT record must hold, new with each tenant; "" for a slug. No secret: DNS shows it.
	Challenge string `json:"challenge"`
	CreatedAt string `json:"created_at"`
}

func domainModel() model[DomainName, Domain] {
	return model[DomainName, Domain]{
		table: ownSchema + ".core_tenant_domains", noun: "domain",
		columns: []string{"host", "tenant_id", "kind", "verified", "challenge", "created_at"},
		fields: func(d *Domain) []any {
			return []any{&d.Host, &d.TenantID, &d.Kind, &d.Verified, &d.Challenge, &d.CreatedAt}
		},
		derive: deriveDomain,
		rule:   domainRule,
		check:  checkDomain,
		batch: batch{names: true, checks: []batchCheck{
			{"import_unknown_tenant", "tenant_id", "there is no tenant %q"}, {"import_domain_is_id", "host", "a tenant's id is %q: choose another name"},
		}},
	}
}

func deriveDomain(d *Domain) {
	if d.Kind == "" {
		d.Kind = kindOf(d.Host)
	}
	switch {
	case d.Kind == KindSlug:
		d.Verified = true // nobody else can own it
	case d.Challenge == "":
		d.Challenge = GenID()
	}
}

func kindOf(host DomainName) string {
	if strings.Contains(string(host), ".") {
		return KindHost
	}
	return KindSlug
}

// ParseDomainName gives the one normal form of a slug or a custom host: lower case, IDNA-ASCII (UTS 46, the lookup
// profile), without the root's dot; full-width letters and dots are folded. It refuses what a Host header could never
// spell so, IP addresses and what browsers take for one, and xn-- labels that do not decode or decode to plain ASCII,
// which would be a second spelling of one name.
func ParseDomainName(s string) (DomainName, error) {
	name := foldASCII(s)
	if !isASCII(name) {
		mapped, err := idna.Lookup.ToASCII(s)
		if err != nil {
			return "", errors.New("no valid international host name")
		}
		name = mapped
	}
	name = strings.TrimSuffix(name, ".")
	d := Domain{Host: DomainName(name), Kind: kindOf(DomainName(name))}
	return d.Host, checkDomainName(&d)
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
}

// checkDomainName takes a slug of one label, or a host of several, in their normal form (RFC 1123 labels, and _ in
// slugs, which fh-saas's tenant ids use too).
func checkDomainName(d *Domain) error {
	labels := strings.Split(string(d.Host), ".")
	switch {
	case d.Kind != KindSlug && d.Kind != KindHost:
		return errors.New("a domain's kind is slug or host")
	case d.Kind == KindSlug && len(labels) != 1:
		return errors.New("a slug has no dot: use kind host for a custom domain")
	case d.Kind == KindHost && len(labels) < 2:
		return errors.New("a custom host has a dot: use kind slug for a name below base_domain")
	case len(d.Host) > 253:
		return errors.New("a host has at most 253 characters")
	}
	for _, label := range labels {
		if err := checkLabel(label, d.Kind); err != nil {
			return err
		}
	}
	if _, err := netip.ParseAddr(string(d.Host)); err == nil || d.Kind == KindHost && numeric(labels[len(labels)-1]) {
		return errors.New("an IP address is no host name")
	}
	return nil
}

func checkLabel(label, kind string) error {
	if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
		return errors.New("each label of a host has 1 to 63 characters and neither begins nor ends with -")
	}
	for _, c := range []byte(label) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && (c != '_' || kind != KindSlug) {
			return errors.New("a host is lower-case letters, digits and -, international names in their xn-- form")
		}
	}
	if !strings.HasPrefix(label, "xn--") {
		return nil
	}
	decoded, err := idna.Lookup.ToUnicode(label)
	if err != nil || isASCII(decoded) {
		return errors.New("a label that begins with xn-- must stand for an international name")
	}
	if again, err := idna.Lookup.ToASCII(decoded); err != nil || again != label {
		return errors.New("a label that begins with xn-- must be the one form of its international name")
	}
	return nil
}

// numeric reports whether browsers take a host with that last label for an IPv4 address (URL Standard, 3.5).
func numeric(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// Reserved are the proxy's own names.
type Reserved struct {
	// Hosts are whole hosts, without a port.
	Hosts []string
	// BaseDomain reserves itself and every custom host under it: there, slugs and ids name tenants. A slug that would
	// make one of Hosts below it is reserved, too.
	BaseDomain string
}

// reservedNames are Reserved in normal form.
type reservedNames struct {
	hosts  map[DomainName]bool
	base   string
	broken error
}

// normal drops hosts that no domain can equal, such as addresses. With a base domain that is no name, nothing can be
// checked, and so no domain written.
func (r Reserved) normal() reservedNames {
	names := reservedNames{hosts: map[DomainName]bool{}}
	for _, h := range r.Hosts {
		if name, err := ParseDomainName(h); err == nil {
			names.hosts[name] = true
		}
	}
	if r.BaseDomain != "" {
		base, err := ParseDomainName(r.BaseDomain)
		names.base = string(base)
		if err != nil {
			names.broken = fmt.Errorf("base_domain: %w", err)
		}
	}
	return names
}

func (n *reservedNames) check(d *Domain) error {
	if n.broken != nil {
		return n.broken
	}
	host := d.Host
	if d.Kind == KindSlug && n.base != "" {
		host += DomainName("." + n.base)
	}
	switch {
	case n.hosts[host]:
		return fmt.Errorf("%w: the proxy itself answers under %s: choose another name", ErrConflict, host)
	case d.Kind == KindHost && n.base != "" && (string(host) == n.base || strings.HasSuffix(string(host), "."+n.base)):
		return fmt.Errorf("%w: names under %s are slugs: give the tenant a slug instead", ErrConflict, n.base)
	}
	return nil
}

// domainRule keeps the rules of a domain that need no look at other rows.
func domainRule(h *HostDatabase, d *Domain) error {
	if d.TenantID == "" {
		return errors.New("a domain needs tenant_id")
	}
	if err := checkDomainName(d); err != nil {
		return err
	}
	return h.reserved.check(d)
}

func checkDomain(ctx context.Context, tx *Tx, old, row *Domain) error {
	if old != nil && row.Kind == KindHost && (old.TenantID != row.TenantID || old.Kind != KindHost) {
		row.Verified, row.Challenge = false, GenID() // what one tenant proved is not another's
	}
	if old == nil || old.Kind != row.Kind {
		if err := tx.lock(ctx, namesLock); err != nil {
			return err
		}
		n, err := tx.count(ctx, "look for the tenant id", "count_tenant_id", string(row.Host))
		if err != nil {
			return err
		}
		if n > 0 {
			return fmt.Errorf("%w: a tenant's id is that name: choose another", ErrConflict)
		}
	}
	n, err := tx.count(ctx, "look for the tenant", "count_tenant_id", string(row.TenantID))
	if err == nil && n == 0 {
		err = fmt.Errorf("domain's tenant: %w", ErrNotFound)
	}
	return err
}

// TXTRecord is the DNS record that proves a custom host to be its tenant's: its absolute name and its one text.
func (d *Domain) TXTRecord() (name, text string) {
	return "_tenantgate." + string(d.Host) + ".", "tenantgate-verification=" + d.Challenge
}

// ChallengeDomain returns a custom host with its challenge, which is made where another program left it out. ErrNotFound
// without such a domain.
func (t *Tables) ChallengeDomain(ctx context.Context, host DomainName) (*Domain, error) {
	d, err := t.Domains.Get(ctx, host)
	if err != nil || d.Kind != KindHost || d.Challenge != "" {
		return d, err
	}
	err = t.at.change(ctx, func(tx *Tx) error {
		n, err := tx.exec(ctx, "store the challenge", "domain_challenge", string(host), GenID())
		if err != nil || n == 0 {
			return err
		}
		return tx.Audit(ctx, "domain.updated", string(host), map[string]any{"challenge": "made"})
	})
	if err != nil {
		return nil, err
	}
	return t.Domains.Get(ctx, host)
}

// VerifyDomain takes a custom host into use, audited with how it was proven. d is the row that was looked at: if it has
// another tenant or another challenge by now, that is ErrConflict. A host that is in use already stays so.
func (t *Tables) VerifyDomain(ctx context.Context, d *Domain, how string) (*Domain, error) {
	var row *Domain
	err := t.at.change(ctx, func(tx *Tx) error {
		n, err := tx.exec(ctx, "verify the domain", "domain_verified", string(d.Host), string(d.TenantID), d.Challenge)
		if err != nil {
			return err
		}
		if row, err = tx.Domains.Get(ctx, d.Host); err != nil {
			return err
		}
		if row.TenantID != d.TenantID || row.Challenge != d.Challenge || !row.Verified {
			return fmt.Errorf("%w: the domain was changed meanwhile: look again", ErrConflict)
		}
		if n == 0 {
			return nil
		}
		return tx.Audit(ctx, "domain.verified", string(d.Host), map[string]any{"tenant_id": string(d.TenantID), "how": how})
	})
	return row, err
}
