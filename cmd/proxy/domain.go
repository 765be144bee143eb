package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate/catalog"
)

func domains() *kind[catalog.DomainName, catalog.Domain] {
	type row = catalog.Domain
	return &kind[catalog.DomainName, row]{
		name: "domain", plural: "domains", about: "slugs and custom hosts that name a tenant", naming: "HOST",
		columns: []column[row]{
			hostColumn(),
			referenceColumn("tenant_id", "the tenant's id or slug", tenantReference, func(r *row) *catalog.TenantID { return &r.TenantID }),
			domainColumn("kind", "slug or host; made of the host", func(r *row) *string { return &r.Kind }),
			verifiedColumn(),
			domainColumn("challenge", "what the host's TXT record must hold", func(r *row) *string { return &r.Challenge }),
			domainColumn("created_at", createdUsage, func(r *row) *string { return &r.CreatedAt }),
		},
		table:    func(t *catalog.Tables) *catalog.Table[catalog.DomainName, row] { return &t.Domains },
		id:       func(r *row) *catalog.DomainName { return &r.Host },
		find:     findDomain,
		argument: nameDomain,
		required: []string{"tenant_id"},
		filters:  []string{"tenant_id", "kind", "verified"},
		words:    map[string][]string{"kind": {catalog.KindSlug, catalog.KindHost}},
		examples: map[string]string{
			"list":   "--tenant acme",
			"show":   "portal.acme.com",
			"create": "portal.acme.com --tenant acme",
			"update": "portal.acme.com --tenant globex",
			"delete": "portal.acme.com",
		},
	}
}

// hostColumn is the argument of create; imports give it in a column.
func hostColumn() column[catalog.Domain] {
	return column[catalog.Domain]{name: "host", usage: "slug or host", silent: true, bind: func(r *catalog.Domain) cell {
		return cell{
			get: func() any { return string(r.Host) },
			set: func(s string) (err error) {
				r.Host, err = catalog.ParseDomainName(s)
				return err
			},
		}
	}}
}

// domainColumn holds a text that the catalog makes: it is shown only, and imported.
func domainColumn(name, usage string, at func(*catalog.Domain) *string) column[catalog.Domain] {
	return column[catalog.Domain]{name: name, usage: usage, silent: true, bind: func(r *catalog.Domain) cell {
		p := at(r)
		return cell{
			get: func() any { return emptyIsNull(*p) },
			set: func(s string) error {
				*p = s
				return nil
			},
		}
	}}
}

func emptyIsNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// verifiedColumn is shown only: `domain verify` sets it.
func verifiedColumn() column[catalog.Domain] {
	return column[catalog.Domain]{name: "verified", usage: "whether the host is in use", silent: true, truth: true, bind: func(r *catalog.Domain) cell {
		return cell{
			get: func() any { return r.Verified },
			set: func(s string) error {
				if s != "true" && s != "false" && s != "" {
					return errors.New("want true or false")
				}
				r.Verified = s == "true"
				return nil
			},
		}
	}}
}

// nameDomain sets the host, and what it is: a slug has one label, a host several.
func nameDomain(d *catalog.Domain, name string) error {
	host, err := catalog.ParseDomainName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	d.Host = host
	return nil
}

// findDomain takes a host in any spelling of its one name.
func findDomain(_ context.Context, _ *catalog.Tables, name string) (catalog.DomainName, error) {
	host, err := catalog.ParseDomainName(name)
	if err != nil {
		return catalog.DomainName(name), nil // as another program may have written it
	}
	return host, nil
}

// lookupTimeout bounds a look-up of a TXT record, the resolver's own retries included.
const lookupTimeout = 15 * time.Second

// domainVerify takes a custom host into use once it is proven to be the tenant's.
func domainVerify(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "verify HOST", Short: "Take a custom host into use", Args: oneArg("HOST"),
		Long: "Looks up the TXT record _tenantgate.HOST with the system's resolver and takes the host into use if it holds the\n" +
			"host's challenge, which is new with each tenant. Without it, says which record to create. With --confirm the\n" +
			"operator vouches that the host is the tenant's, and nothing is looked up.",
		Example: "tenantgate domain verify portal.acme.com",
	}
	output := outputFlag(cmd)
	confirm := cmd.Flags().Bool("confirm", false, "you vouch that the host is the tenant's")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		k := domains()
		return p.withHost(cmd.Context(), func(ctx context.Context, host *catalog.HostDatabase) error {
			row, err := k.get(ctx, &host.Tables, selector{id: args[0]})
			if err != nil {
				return err
			}
			if row, err = host.ChallengeDomain(ctx, row.Host); err != nil {
				return fmt.Errorf("domain %s: %w", args[0], err)
			}
			how := "operator"
			if !*confirm && !row.Verified {
				how = "txt"
				if err := p.proveDomain(ctx, row); err != nil {
					return err
				}
			}
			if row, err = host.VerifyDomain(ctx, row, how); err != nil {
				return fmt.Errorf("domain %s: %w", args[0], err)
			}
			return writeOne(p.out, *output, k.record(row, false))
		})
	}
	return cmd
}

// proveDomain looks for the challenge in the DNS. What cannot be looked up proves nothing.
func (p *program) proveDomain(ctx context.Context, d *catalog.Domain) error {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	name, want := d.TXTRecord()
	found, err := p.lookupTXT(ctx, name)
	missing, ok := errors.AsType[*net.DNSError](err)
	switch {
	case err != nil && (!ok || !missing.IsNotFound):
		why := "no answer"
		if ok && !missing.IsTimeout {
			why = "the resolver failed"
		}
		return fmt.Errorf("domain %s is not verified: its TXT record %s could not be looked up (%s): try again later", d.Host, name, why)
	case slices.Contains(found, want):
		return nil
	case len(found) > 0:
		return fmt.Errorf("domain %s is not verified: %s holds other text: create this record beside it and try again: %s", d.Host, name, txtRecord(name, want))
	}
	return fmt.Errorf("domain %s is not verified: create this record and try again once it is published: %s", d.Host, txtRecord(name, want))
}

// txtRecord is a line of a zone file.
func txtRecord(name, text string) string { return name + ` 300 IN TXT "` + text + `"` }
