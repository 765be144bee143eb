// An OpenID provider by npm's oidc-provider, for a test: its own sign-in pages, keys of three kinds, JWT access tokens
// for the resources that the test names, back-channel logout. It reads one JSON line ({clients, resources: {indicator:
// algorithm}}), writes its issuer on one line, and ends with its standard input. Later lines are steps of a change of
// keys, each answered by one line: publish (new keys beside the old), sign (with the new ones), drop (the old ones).
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

let generation = 0;
function keySet() {
  generation += 1;
  return [
    key(`rs-${generation}`, 'RS256', 'rsa', { modulusLength: 2048 }),
    key(`es-${generation}`, 'ES256', 'ec', { namedCurve: 'P-256' }),
    key(`ed-${generation}`, 'EdDSA', 'ed25519'),
  ];
}

const server = createServer();
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;
// The first key of its kind signs. What the provider remembers is kept beside it, so that a new one goes on.
const serve = (keys) => {
  const provider = new Provider(issuer, {
    clients,
    jwks: { keys },
    cookies: { keys: ['only a test'] },
    pkce: { required: () => true },
    // Its own refuses loopback, where the gate that it tells of a logout is.
    fetch: (url, { dispatcher, ...options }) => fetch(url, options),
    scopes: ['openid', 'email', 'profile', 'api'],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
    findAccount: (ctx, id) => ({
      accountId: id,
      claims: () => ({ sub: id, name: id, email: `${id}@example.com`, email_verified: true }),
    }),
    features: {
      backchannelLogout: { enabled: true },
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
  provider.on('backchannel.error', (ctx, error) => console.error(error));
  server.removeAllListeners('request');
  server.on('request', provider.callback());
};

let old = keySet();
let fresh;
serve(old);
lines.on('line', (step) => {
  switch (step) {
    case 'publish': fresh = keySet(); serve([...old, ...fresh]); break;
    case 'sign': serve([...fresh, ...old]); break;
    case 'drop': serve(fresh); old = fresh; break;
    default: throw new Error(step);
  }
  process.stdout.write('done\n');
});
process.stdout.write(`${issuer}\n`);
