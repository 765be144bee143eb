package webhook

import "github.com/tenantgate/tenantgate/billing/ledger"

// Parse reads an event as the endpoint does, for who has it from somewhere else than the endpoint; nil without an error is
// one of a type that nothing follows from. An event of a connected account is an error.
func Parse(body []byte) (*ledger.Event, error) {
	e, err := readEnvelope(body)
	if err == nil && e.Account {
		err = errAccount
	}
	if err != nil {
		return nil, err
	}
	return e.read()
}
