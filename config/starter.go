package config

import "strings"

// Starter returns the configuration that `tenantgate init` writes: short, commented, and complete but for what only the
// operator knows, which `config check` then asks for. secretKeyFile is the file that holds the master secret.
func Starter(secretKeyFile string) []byte {
	return []byte(strings.Replace(starter, "SECRET_KEY_FILE", quote(secretKeyFile), 1))
}

const starter = `# tenantgate: starter configuration. ` + "`tenantgate config check`" + ` says what is still missing, at which line.
# config.example.yaml and docs/configuration.md show every key with its default. ${NAME} in a value is replaced by the
# environment variable NAME, $$ is a plain $; TENANTGATE_PUBLIC_URL and its like override what stands here.

# Where browsers reach the proxy. http is for loopback and *.localhost only.
public_url: "http://localhost:8080"
listen: "127.0.0.1:8080"

# The master secret: it signs sessions and seals keys. Whoever has it can sign in as anybody.
secret_key_file: SECRET_KEY_FILE

host_database:
  # postgresql://user:password@host:5432/database (better in url_file), or, for one machine, a file:
  url: "sqlite:tenantgate.db"

identity:
  providers:
    # Register http://localhost:8080/_gate/callback/google there as the redirect URI.
    - name: google
      issuer: "https://accounts.google.com"
      client_id: ""            # what the provider issued
      client_secret_file: ""   # a file that holds the secret that it issued
      email_domains: []        # [example.com]: only verified addresses of this domain may sign in
      bearer:
        audiences: []          # [my-api]: JWTs for this audience count as bearer tokens
  sign_up: deny                # users are made by ` + "`tenantgate user create`" + `

tenants:
  base_domain: ""              # app.example.com: acme.app.example.com names the tenant acme
  path_prefix: "/t/"           # /t/acme/x names the tenant acme and reaches the app as /x

upstreams:
  app:
    urls: ["http://127.0.0.1:3000"]

# The first route that matches wins; what no route matches is denied.
routes:
  - {path: /healthz, access: public, upstream: app}
  - {path: /billing/, subscription: optional, upstream: app}                # lapsed tenants too, so that they can pay
  - {path: /settings/, methods: [unsafe], min_role: admin, upstream: app}   # unsafe: all but GET, HEAD, OPTIONS
  - {path: /, upstream: app}                                                # members of a paying tenant
`
