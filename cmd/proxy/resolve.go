package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tenantgate/tenantgate/catalog"
)

// findUser takes an id or an e-mail address. An address that fits several users is refused with their ids.
func findUser(ctx context.Context, t *catalog.Tables, name string) (catalog.UserID, error) {
	user, err := t.GlobalUsers.Get(ctx, catalog.UserID(name))
	if err == nil {
		return user.ID, nil
	}
	if !errors.Is(err, catalog.ErrNotFound) {
		return "", fmt.Errorf("user %s: %w", name, err)
	}
	users, err := t.UsersByEmail(ctx, name)
	if err != nil {
		return "", fmt.Errorf("user %s: %w", name, err)
	}
	switch len(users) {
	case 0:
		return "", fmt.Errorf("user %s: %w; `tenantgate user list` shows all", name, catalog.ErrNotFound)
	case 1:
		return users[0].ID, nil
	}
	ids := make([]string, len(users))
	for i := range users {
		ids[i] = string(users[i].ID)
	}
	return "", fmt.Errorf("user %s: %d users have this address: name one by its id: %s", name, len(users), strings.Join(ids, ", "))
}

// findTenant takes an id or a slug; the id wins.
func findTenant(ctx context.Context, t *catalog.Tables, name string) (catalog.TenantID, error) {
	tenant, err := t.Tenants.Get(ctx, catalog.TenantID(name))
	if err == nil {
		return tenant.ID, nil
	}
	if !errors.Is(err, catalog.ErrNotFound) {
		return "", fmt.Errorf("tenant %s: %w", name, err)
	}
	id, found, err := t.ResolveTenant(ctx, name, catalog.NamePlain)
	if err != nil {
		return "", fmt.Errorf("tenant %s: %w", name, err)
	}
	if !found {
		return "", fmt.Errorf("tenant %s: %w; `tenantgate tenant list` shows all", name, catalog.ErrNotFound)
	}
	return id, nil
}

// findMember takes the membership of a user in a tenant. Several are refused with their ids.
func findMember(ctx context.Context, t *catalog.Tables, user, tenant string) (catalog.MembershipID, error) {
	userID, err := findUser(ctx, t, user)
	if err != nil {
		return "", err
	}
	tenantID, err := findTenant(ctx, t, tenant)
	if err != nil {
		return "", err
	}
	rows, _, err := t.Memberships.List(ctx, catalog.Page{Filter: map[string]string{"user_id": string(userID), "tenant_id": string(tenantID)}})
	if err != nil {
		return "", fmt.Errorf("membership of %s in %s: %w", user, tenant, err)
	}
	switch len(rows) {
	case 0:
		return "", fmt.Errorf("membership of %s in %s: %w; `tenantgate member list --user %s` shows the user's", user, tenant, catalog.ErrNotFound, user)
	case 1:
		return rows[0].ID, nil
	}
	ids := make([]string, len(rows))
	for i := range rows {
		ids[i] = string(rows[i].ID)
	}
	return "", fmt.Errorf("membership of %s in %s: there are %d: name one by its id: %s", user, tenant, len(rows), strings.Join(ids, ", "))
}

// refer replaces what flags say of a user or a tenant by its id.
func refer(ctx context.Context, t *catalog.Tables, to reference, name string) (string, error) {
	switch to {
	case userReference:
		id, err := findUser(ctx, t, name)
		return string(id), err
	case tenantReference:
		id, err := findTenant(ctx, t, name)
		return string(id), err
	}
	return name, nil
}
