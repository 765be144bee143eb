package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/tenantgate/tenantgate/internal/devidp"
)

// facts are what a person or a script needs to begin.
type facts struct {
	ProxyURL    string       `json:"proxy_url"`
	ProviderURL string       `json:"provider_url"`
	AppURL      string       `json:"app_url"`
	AdminURL    string       `json:"admin_url"`
	StripeURL   string       `json:"stripe_url"`
	Data        string       `json:"data"` // "" if nothing is kept
	Tenants     []tenantFact `json:"tenants"`
	People      []personFact `json:"people"`
	Curl        string       `json:"curl"`
}

type tenantFact struct {
	ID           string `json:"id"`
	Name         string `json:"name"`
	URL          string `json:"url"`
	Plan         string `json:"plan"`
	Subscription string `json:"subscription"`
	Active       bool   `json:"active"`
}

type personFact struct {
	Subject string            `json:"subject"`
	Name    string            `json:"name"`
	Email   string            `json:"email"`
	Note    string            `json:"note"`
	Roles   map[string]string `json:"roles"` // by tenant, as its URL names it
}

func gather(p *ports, d *directory, provider *devidp.Provider) (*facts, error) {
	token, err := provider.MintAccessToken("olivia", apiAudience, tokenLife, nil)
	if err != nil {
		return nil, err
	}
	f := &facts{
		ProxyURL: p.proxy.url, ProviderURL: p.provider.url, AppURL: p.app.url, AdminURL: p.admin.url, StripeURL: p.stripe.url,
		Curl: fmt.Sprintf("curl -sS -H 'Authorization: Bearer %s' %s%sacme/api/rows", token, p.proxy.url, pathPrefix),
	}
	if d.kept {
		f.Data = d.path
	}
	for _, t := range tenants() {
		f.Tenants = append(f.Tenants, tenantFact{t.id, t.name, p.proxy.url + pathPrefix + t.pathName() + "/", t.plan, t.status, !t.suspended})
	}
	for _, who := range cast() {
		roles := make(map[string]string)
		for _, in := range who.roles {
			roles[in[0]] = in[1]
		}
		f.People = append(f.People, personFact{who.Subject, who.Name, who.Email, who.Note, roles})
	}
	return f, nil
}

// teller is how facts are printed.
func teller(output string) (func(io.Writer, *facts) error, error) {
	switch output {
	case "", "text", "table":
		return tellPerson, nil
	case "json":
		return tellProgram, nil
	}
	return nil, fmt.Errorf("%w: --output %s: give table or json", ErrUsage, output)
}

// tellProgram prints one JSON object on one line, so that a program reading lines has it whole.
func tellProgram(out io.Writer, f *facts) error {
	if out == nil {
		return nil
	}
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return enc.Encode(f)
}

func tellPerson(out io.Writer, f *facts) error {
	if out == nil {
		return nil
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	line("tenantgate demo: open %s/ and pick a person\n", f.ProxyURL)
	line("  proxy\t%s/", f.ProxyURL)
	line("  provider\t%s/\tsign-in without passwords", f.ProviderURL)
	line("  app\t%s/\tanswers only through the proxy", f.AppURL)
	line("  admin\t%s/\thealthz, readyz, metrics", f.AdminURL)
	line("  stripe\t%s/\tplans are bought here without money", f.StripeURL)
	line("\nPeople")
	for _, p := range f.People {
		line("  %s\t%s\t%s", p.Name, p.Email, p.Note)
	}
	line("\nTenants")
	for _, t := range f.Tenants {
		state := t.Subscription
		if !t.Active {
			state = "suspended"
		}
		line("  %s\t%s\t%s, %s", t.Name, t.URL, t.Plan, state)
	}
	line("\nWithout a browser, as Olivia:\n\n%s\n", f.Curl)
	kept := "Nothing is kept."
	if f.Data != "" {
		kept = "Everything is kept in " + f.Data + "."
	}
	line("%s Ctrl-C ends it.", kept)
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(out, b.String())
	return err
}
