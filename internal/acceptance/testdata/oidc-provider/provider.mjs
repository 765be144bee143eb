// An OpenID provider by npm's oidc-provider, for a test: its own sign-in pages, keys of three kinds, JWT access tokens
// for the resources that the test names. It reads one JSON line ({clients, resources: {indicator: algorithm}}), writes
// its issuer on one line, and ends with its standard input.
import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { Provider, errors } from 'oidc-provider';

const lines = createInterface({ input: process.stdin });
lines.on('close', () => process.exit(0));
const { clients, resources } = JSON.parse(await new Promise((resolve) => lines.once('line', resolve)));

function key(kid, alg, type, options) {
  const { privateKey } = generateKeyPairSync(type, options);
  return { ...privateKey.export({ format: 'jwk' }), kid, alg, use: 'sig' };
}

const server = createServer();
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, {
  clients,
  jwks: {
    keys: [
      key('rs', 'RS256', 'rsa', { modulusLength: 2048 }),
      key('es', 'ES256', 'ec', { namedCurve: 'P-256' }),
      key('ed', 'EdDSA', 'ed25519'),
    ],
  },
  cookies: { keys: ['only a test'] },
  pkce: { required: () => true },
  scopes: ['openid', 'email', 'profile', 'api'],
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
  findAccount: (ctx, id) => ({
    accountId: id,
    claims: () => ({ sub: id, name: id, email: `${id}@example.com`, email_verified: true }),
  }),
  features: {
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (ctx, indicator) => {
        if (!(indicator in resources)) throw new errors.InvalidTarget();
        return {
          scope: 'api', audience: indicator, accessTokenTTL: 300, accessTokenFormat: 'jwt',
          jwt: { sign: { alg: resources[indicator] } },
        };
      },
    },
  },
});
server.on('request', provider.callback());
process.stdout.write(`${issuer}\n`);
