-- Late payments that entitle are few, and looked for every few seconds.

-- +goose Up
CREATE INDEX tenantgate_stripe_watermarks_late ON tenantgate.sys_stripe_watermarks (tenant_id) WHERE status = 'past_due' AND entitles;
