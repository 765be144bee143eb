package auth

import (
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/sealing"
)

// SealedColumns lists what of the host database this package seals, for `key rotate`.
func SealedColumns() []sealing.Column {
	return []sealing.Column{
		sealing.KeyColumn(),
		{
			SealedColumn: catalog.SealedIDTokens(),
			Purpose:      func(id, _ string) string { return idTokenPurpose(catalog.SessionID(id)) },
		},
	}
}
