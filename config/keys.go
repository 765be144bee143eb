package config

// keyDoc is what is known of a key beside its type: the text that documents it and the rules that hold for its value
// wherever it was written. Rules that concern several keys are Validate's.
type keyDoc struct {
	doc string
	// def says what holds without the key, where that is not simply a value of the key.
	def string
	// oneOf are the values that text, or each item of a list, may have.
	oneOf []string
	// known are the only keys of a map.
	known []string
	// nonEmpty: an explicit empty value is a fault, since it would mean the default and read like "none".
	nonEmpty  bool
	whenEmpty string // what to do instead
	// positive: an explicit 0 is a fault, for the same reason.
	positive bool
	// unlimited: an explicit 0 means without limit and is kept as -1.
	unlimited bool
	// example: has no default, config.example.yaml shows an example.
	example bool
}

// keyDocs returns the documentation of every key by its pattern, [] standing for an index and * for a name.
func keyDocs() map[string]keyDoc {
	docs := map[string]keyDoc{}
	for _, part := range []map[string]keyDoc{
		listenerDocs(), databaseDocs(), providerDocs(), identityDocs(), tenantDocs(), upstreamDocs(), routeDocs(), accessDocs(),
		forwardDocs(), boundDocs(), laterDocs(),
	} {
		for pattern, doc := range part {
			docs[pattern] = doc
		}
	}
	return docs
}

func listenerDocs() map[string]keyDoc {
	return map[string]keyDoc{
		"listen": {
			doc:      "Addresses of the public listener: host:port, unix:/path (mode 0660), or a list of them.",
			nonEmpty: true, whenEmpty: "write at least one address",
		},
		"public_url": {
			doc: "Where browsers reach the proxy; the providers' callbacks live here. Its scheme, never the request's, decides " +
				"Secure cookies. http only for loopback and *.localhost.",
			def: "required", example: true,
		},
		"secret_key": {
			doc: "Master secrets, one a line, each base64 of 32 or more bytes. The first signs and seals, all verify and open. " +
				"`tenantgate key generate` makes one. Better kept in secret_key_file.",
			def: "required, here or in the file",
		},
		"secret_key_file": {doc: "File that holds secret_key.", example: true},
		"trusted_proxies": {
			doc: "CIDRs of the proxies in front whose X-Forwarded-* and X-Real-Ip are believed. From everybody else they are " +
				"dropped and rebuilt.",
		},
		"tls.cert_file": {doc: "PEM certificate chain of the public listener, reloaded on change. Empty: no TLS here."},
		"tls.key_file":  {doc: "PEM private key for cert_file, reloaded on change."},
		"admin.listen": {
			doc:      "Address for health, metrics, admin API and console: host:port or unix:/path.",
			nonEmpty: true, whenEmpty: "the listener cannot be switched off; unix:/path keeps it off the network",
		},
		"admin.public_url": {
			doc:      "Where browsers reach the admin listener. http only for loopback and *.localhost.",
			nonEmpty: true,
		},
	}
}

func databaseDocs() map[string]keyDoc {
	return map[string]keyDoc{
		"host_database.url": {
			doc: "The host database: postgresql://user:password@host:5432/name, postgresql+driver://…, sqlite:PATH, " +
				"sqlite:///PATH (relative) or sqlite:////PATH (absolute). It must lead to the primary: several hosts need " +
				"target_session_attrs=read-write or primary.",
			def: "the variables DB_TYPE, DB_USER, DB_PASS, DB_HOST, DB_PORT, DB_NAME",
		},
		"host_database.url_file":        {doc: "File that holds url."},
		"host_database.max_connections": {doc: "Most connections to the host database at a time.", positive: true},
		"host_database.migrate": {
			doc: "Whether serve first does what `tenantgate migrate` does. With false a schema that lacks something stops the start.",
		},
		"host_database.refs.env_prefix": {
			doc: "What NAME must begin with where a db_url is ref:env:NAME; empty: no such db_url is usable. See docs/secrets.md.",
		},
		"host_database.refs.dir": {
			doc: "Directory inside of which a db_url of the form ref:file:PATH must lead, symbolic links followed; empty: no such db_url is usable.",
		},
		"provisioning.engine": {
			doc:   "What tenants' databases are made of: databases and roles of a PostgreSQL server, or SQLite files on this machine. See docs/tenants.md.",
			oneOf: []string{"postgresql", "sqlite"},
		},
		"provisioning.admin_url": {
			doc: "Where they are made: the URL of a role that may make roles and databases, postgresql://user:password@host:5432/name, " +
				"directly and not through a pooler that shares sessions; or sqlite:DIRECTORY. Empty: no tenant is provisioned.",
		},
		"provisioning.admin_url_file": {doc: "File that holds admin_url."},
		"provisioning.migrations_dir": {
			doc: "Directory of the tenants' SQL migrations, NUMBER_NAME.sql as goose reads them. Empty: none.",
		},
		"provisioning.seal": {
			doc: "Whether db_url is sealed when a tenant is provisioned; false where another program reads core_tenants.db_url.",
		},
	}
}

func providerDocs() map[string]keyDoc {
	const p = "identity.providers[]."
	return map[string]keyDoc{
		p + "name": {
			doc: "Name of the provider, part of its callback /_gate/callback/NAME: a-z, 0-9, - and _, at most 32.",
			def: "required", example: true,
		},
		p + "issuer": {
			doc: "Issuer identifier, compared exactly with the iss claim. https, or http on loopback.",
			def: "required", example: true,
		},
		p + "discovery_url": {doc: "Where the provider's metadata is.", def: "issuer + /.well-known/openid-configuration"},
		p + "ca_file":       {doc: "PEM roots to trust for this provider instead of the system's."},
		p + "client_auth":   {doc: "How the client secret is sent to the token endpoint.", oneOf: []string{"basic", "post"}},
		p + "prompt":        {doc: "The prompt parameter of the sign-in request, such as select_account."},
		p + "client_id":     {doc: "Client identifier that the provider issued.", def: "required, but for bearer tokens alone", example: true},
		p + "client_secret": {
			doc: "Client secret that the provider issued. Better kept in client_secret_file.",
			def: "required beside client_id, here or in the file",
		},
		p + "client_secret_file": {doc: "File that holds client_secret.", example: true},
		p + "scopes": {
			doc:      "Scopes asked for at sign-in; openid is among them.",
			nonEmpty: true, whenEmpty: "leave it out for openid, email and profile",
		},
		p + "subject_prefix": {
			doc: "GlobalUser.oauth_id is this prefix and the sub claim. No provider's may begin with another's; the empty one is " +
				"for a provider that stands alone.",
		},
		p + "email_domains": {
			doc: "Browser sign-in is for verified addresses of these domains. Empty: no limit.",
		},
		p + "trust_email": {
			doc: "Whether a verified address links to the one user that has it and was never linked.",
		},
		p + "bearer.audiences": {
			doc: "Audiences of this provider's JWTs that count as bearer tokens. Empty: none does.",
		},
		p + "bearer.algorithms": {
			doc: "Signature algorithms of bearer tokens.", oneOf: []string{"RS256", "ES256", "EdDSA"},
			nonEmpty: true, whenEmpty: "leave it out for all three",
		},
		p + "bearer.leeway": {doc: "How far clocks may differ when exp, nbf and iat are judged, at most 10m."},
	}
}

func identityDocs() map[string]keyDoc {
	return map[string]keyDoc{
		"identity.session.idle_timeout": {
			doc:      "A session unused for so long ends. Last use is written once in half of it or a minute, the shorter.",
			positive: true,
		},
		"identity.session.absolute_timeout": {doc: "A session ends so long after sign-in, whatever its use.", positive: true},
		"identity.sign_up": {
			doc: "What becomes of an unknown person with a verified address. Other than deny it needs email_domains or " +
				"insecure_open_sign_up. create_tenant makes the user, and then gives a tenant of their own to people who belong to none; it needs provisioning.admin_url.",
			oneOf: []string{"deny", "create_user", "create_tenant"},
		},
		"identity.sign_up_limit": {
			doc: "New users an hour and client IP.", positive: true,
		},
		"identity.insecure_open_sign_up": {
			doc: "Lets anybody with an account at a provider sign up: sign_up without email_domains.",
		},
		"identity.insecure_empty_prefix": {
			doc: "Lets one of several providers have the empty subject_prefix.",
		},
	}
}

func tenantDocs() map[string]keyDoc {
	return map[string]keyDoc{
		"tenants.resolve": {
			doc:      "Which parts of a request may name its tenant. Those that are present must agree; session and only are asked last.",
			oneOf:    []string{"host", "path", "header", "claim", "session", "only"},
			nonEmpty: true, whenEmpty: "leave it out for all six, or write [only]",
		},
		"tenants.base_domain": {
			doc:     "acme.BASE_DOMAIN names the tenant acme; BASE_DOMAIN itself names none. Empty: hosts name no tenant.",
			example: true,
		},
		"tenants.path_prefix": {
			doc: "With /t/, /t/acme/x names the tenant acme and reaches the app as /x with X-Forwarded-Prefix: /t/acme. Empty: paths " +
				"name no tenant.",
			example: true,
		},
		"tenants.header": {
			doc:      "Request header that names a tenant; read, then removed.",
			nonEmpty: true, whenEmpty: "take header out of tenants.resolve instead",
		},
		"tenants.claim": {
			doc:      "Claim of bearer tokens that names a tenant.",
			nonEmpty: true, whenEmpty: "take claim out of tenants.resolve instead",
		},
	}
}

func upstreamDocs() map[string]keyDoc {
	const u = "upstreams.*."
	return map[string]keyDoc{
		u + "urls": {
			doc: "The app's addresses, used in turn: http://host:port, https://host, h2c://host:port or unix:/path. Without a path: " +
				"the app receives exactly the path that was judged.",
			def: "required", example: true, nonEmpty: true,
		},
		u + "timeout": {doc: "How long the app may take until its response headers.", positive: true},
		u + "host": {
			doc: "The Host that the app receives: pass (the client's), upstream (the URL's), or a name.",
		},
		u + "ca_file":   {doc: "PEM roots to trust for https:// instead of the system's."},
		u + "cert_file": {doc: "PEM client certificate for https://."},
		u + "key_file":  {doc: "PEM private key for cert_file."},
		u + "insecure_plaintext": {
			doc: "Allows http:// and h2c:// to another machine, although the tenant's database URI is a credential.",
		},
		u + "audience": {doc: "Audience of the assertion for this app.", def: "forward.assertion.audience"},
	}
}

func routeDocs() map[string]keyDoc {
	const r = "routes[]."
	return map[string]keyDoc{
		r + "path": {
			doc: "Prefix on segment boundaries: /settings/ also matches /settings. ASCII case is ignored, but for public routes. The " +
				"first route that matches wins; a request that none matches is denied.",
			def: "required", example: true,
		},
		r + "methods": {
			doc: "Methods that match; unsafe stands for all but GET, HEAD and OPTIONS.", def: "all",
			example: true, nonEmpty: true, whenEmpty: "leave it out for all methods",
		},
		r + "host": {
			doc: "Host that matches.", def: "all", example: true, nonEmpty: true, whenEmpty: "leave it out for all hosts",
		},
		r + "access": {
			doc:     "Who may pass: tenant (a member of the tenant), user (signed in, tenant optional) or public.",
			oneOf:   []string{"tenant", "user", "public"},
			example: true,
		},
		r + "upstream": {
			doc: "Name of the upstream that answers.", def: "required, but for middleware", example: true,
		},
		r + "subscription": {
			doc: "Whether the tenant must be entitled: required or optional. For access: tenant.", def: "required",
			oneOf: []string{"required", "optional"}, example: true,
		},
		r + "min_role": {
			doc: "Lowest of `roles` that may pass. For access: tenant.", def: "any member",
			example: true, nonEmpty: true, whenEmpty: "leave it out for any member",
		},
		r + "feature": {
			doc: "Feature that the tenant's plan must have. For access: tenant.", def: "none",
			example: true, nonEmpty: true, whenEmpty: "leave it out for any plan",
		},
		r + "min_tier": {doc: "Lowest tier level of the tenant's plan. For access: tenant.", def: "any", example: true},
		r + "timeout":  {doc: "Overrides the upstream's timeout.", def: "the upstream's", positive: true, example: true},
		r + "cors.origins": {
			doc: "Origins whose scripts may read answers: preflights are answered, and our own denials are marked. [\"*\"]: any.",
			def: "none", example: true, nonEmpty: true, whenEmpty: "leave cors out for none",
		},
		r + "cors.credentials": {doc: "Whether such scripts may send cookies.", example: true},
		r + "cross_origin": {
			doc: "Origins that may send unsafe methods and open WebSockets by cookie.", example: true,
		},
		r + "allow_encoded_slash":   {doc: "Lets paths with %2F pass where every reading of them gives this route.", example: true},
		r + "allow_path_parameters": {doc: "Lets paths with ; or %3B pass where every reading of them gives this route.", example: true},
	}
}

func accessDocs() map[string]keyDoc {
	return map[string]keyDoc{
		"roles": {
			doc:      "Membership roles, lowest first. A role that is not listed ranks below all of them.",
			nonEmpty: true, whenEmpty: "leave it out for member, admin and owner",
		},
		"subscription.required":     {doc: "Whether tenants need a subscription at all."},
		"subscription.grace_period": {doc: "How long past_due stays entitled."},
		"subscription.grace_from": {
			doc:   "When grace begins: at the period's end, or when payment became past due, as far as a webhook told us; else at the period's end too.",
			oneOf: []string{"period_end", "past_due"},
		},
		"subscription.exempt_plans": {doc: "plan_tier of tenants that need no subscription."},
		"subscription.plan_aliases": {doc: "plan_tier to plan key, for tenants and subscriptions alike."},
		"subscription.free_plan": {
			doc:      "plan_tier of a tenant whose entitlement ended; never one of exempt_plans.",
			nonEmpty: true,
		},
	}
}

// headerKeys are the keys of forward.headers with the header that each stands for.
func headerKeys() map[string]string {
	return map[string]string{
		"tenant_id": "X-Tenant-Id", "tenant_db_uri": "X-Tenant-Db-Uri", "tenant_plan": "X-Tenant-Plan",
		"tenant_features": "X-Tenant-Features", "subscription_status": "X-Subscription-Status", "user_id": "X-User-Id",
		"user_email": "X-User-Email", "user_role": "X-User-Role", "user_profile_id": "X-User-Profile-Id",
		"assertion": "X-Gate-Assertion",
	}
}

func forwardDocs() map[string]keyDoc {
	return map[string]keyDoc{
		"forward.db_uri": {
			doc: "Whether the app receives the tenant's database URI in X-Tenant-Db-Uri.", oneOf: []string{"header", "off"},
		},
		"forward.headers": {
			doc:   "Other names for the headers that the app receives, such as tenant_id: X-Org-Id.",
			known: sortedKeys(headerKeys()),
		},
		"forward.method_override": {
			doc: "What becomes of X-HTTP-Method-Override and its kin. Rules judge the real method.", oneOf: []string{"strip", "pass"},
		},
		"forward.authorization": {
			doc: "What becomes of a bearer token that tenantgate consumed.", oneOf: []string{"strip", "pass"},
		},
		"forward.middleware_headers": {doc: "Whether the Go middleware sets the headers on the request too."},
		"forward.assertion.enabled":  {doc: "Whether the app receives X-Gate-Assertion."},
		"forward.assertion.audience": {doc: "The assertion's aud claim.", nonEmpty: true},
		"forward.assertion.lifetime": {
			doc: "How long an assertion is good, 2s to 1h; renewed at half of it.", positive: true,
		},
	}
}

func boundDocs() map[string]keyDoc {
	return map[string]keyDoc{
		"cache.entries":      {doc: "Most entries in memory.", positive: true},
		"cache.ttl":          {doc: "No entry is used longer."},
		"cache.negative_ttl": {doc: "How long it is remembered that something does not exist."},
		"cache.heartbeat":    {doc: "How old the last look at the host database may be while decisions come from memory.", positive: true},
		"cache.max_stale":    {doc: "How long decisions may come from memory while the host database cannot be read. 0: never."},
		"limits.header_bytes": {
			doc: "Most bytes of a request's line and headers, at least 1KiB. 0: unlimited.", unlimited: true,
		},
		"limits.body_bytes": {doc: "Most bytes of a request's body. 0: unlimited."},
		"limits.read_header_timeout": {
			doc: "How long a client may take to send its headers. 0: unlimited.", unlimited: true,
		},
		"limits.idle_timeout": {doc: "How long a kept-alive connection may stay idle. 0: unlimited.", unlimited: true},
		"telemetry.traces": {
			doc: "otlp sends spans over HTTP to where the variables OTEL_EXPORTER_OTLP_* say.", oneOf: []string{"off", "otlp"},
		},
		"telemetry.metrics":    {doc: "Whether /metrics on the admin listener answers.", oneOf: []string{"prometheus", "off"}},
		"telemetry.log.level":  {doc: "Least level that is logged.", oneOf: []string{"debug", "info", "warn", "error"}},
		"telemetry.log.format": {doc: "Form of log lines.", oneOf: []string{"json", "text"}},
	}
}

// laterDocs documents what the contract has and this version refuses.
func laterDocs() map[string]keyDoc {
	return map[string]keyDoc{
		"forward_auth.listen":                {doc: "Address of the forward-auth listener. Not supported yet."},
		"forward_auth.peers":                 {doc: "CIDRs that may ask the forward-auth listener."},
		"forward_auth.secret":                {doc: "What peers must send in X-Gate-Forward-Secret. Not supported yet."},
		"forward_auth.secret_file":           {doc: "File that holds forward_auth.secret. Not supported yet."},
		"ext_authz.listen":                   {doc: "Address of Envoy's gRPC listener. Not supported yet."},
		"billing.stripe.webhook_secret":      {doc: "Secrets of the Stripe webhook endpoint, one a line, each accepted. Without one there is no endpoint."},
		"billing.stripe.webhook_secret_file": {doc: "File that holds webhook_secret."},
		"billing.stripe.api_key":             {doc: "Secret or restricted Stripe API key: billing pages, reconcile, plan sync; webhooks become hints."},
		"billing.stripe.api_key_file":        {doc: "File that holds api_key."},
		"billing.stripe.api_url":             {doc: "Where Stripe's API is: https, or http on loopback.", def: "Stripe's own"},
		"billing.stripe.trust_metadata":      {doc: "Whether unsigned metadata and client_reference_id may name the tenant: whoever can write them in Stripe, or open a payment link, then chooses who is paid for."},
		"audit.mode": {
			doc:   "required: what cannot be recorded in the audit log is not done. best_effort: it is done, counted and logged.",
			oneOf: []string{"required", "best_effort"},
		},
	}
}
