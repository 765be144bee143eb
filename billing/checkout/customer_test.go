package checkout

import (
	"fmt"
	"testing"

	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/billing/stripeapi"
)

func TestOnlyAMissingCustomerIsReplaced(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		gone bool
	}{
		"named by a parameter": {&stripeapi.Error{Status: 400, Code: "resource_missing", Param: "customer", Message: "No such customer: 'cus_1'"}, true},
		"of the other mode":    {&stripeapi.Error{Status: 400, Code: "resource_missing", Param: "customer", Message: "No such customer: 'cus_1'; a similar object exists in test mode"}, true},
		"named by its path":    {fmt.Errorf("%w: %w", ledger.ErrGone, &stripeapi.Error{Status: 404, Code: "resource_missing", Param: "id", Message: "No such customer: 'cus_1'"}), true},
		"a price":              {&stripeapi.Error{Status: 400, Code: "resource_missing", Param: "line_items[0][price]", Message: "No such price: 'price_1'"}, false},
		"another fault of it":  {&stripeapi.Error{Status: 400, Code: "parameter_invalid_empty", Param: "customer"}, false},
		"no answer":            {&stripeapi.Error{}, false},
		"nothing":              {nil, false},
		"a session":            {ledger.ErrGone, false},
	} {
		if got := customerGone(asking("create checkout", tc.err)); got != tc.gone {
			t.Errorf("%s: %v", name, got)
		}
	}
}
