// A certified OpenID provider on loopback with three users, for the live tests.
// node provider.mjs PORT RELAY-ORIGIN [RELAY-CA [ACCESS-SECONDS [CLIENT-KEY]]]: signs people in to the client "relay" of
// the relay at RELAY-ORIGIN.  Its keys are new at each start, so that a restart is a rotation.  RELAY-CA is the file of the
// relay's authority, read when the provider tells the relay of a sign-out; CLIENT-KEY is a public key (JWK), for a client
// that has a key instead of a secret.  POST /test/disable/NAME takes somebody's account away,
// GET /test/refreshes says how many refresh tokens were taken.
import { createPrivateKey, generateKeyPairSync, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import https from 'node:https';
import Provider from 'oidc-provider';

const [port, relay, authority, accessSeconds, clientKey] = process.argv.slice(2);
const issuer = `http://localhost:${port}`;

const users = {
  alice: { password: 'wonderland', groups: ['staff', 'finance'], name: 'Alice Ahlers', email: 'alice@example.com' },
  bob: { password: 'builder', groups: ['staff'], name: 'Bob Berger', email: 'bob@example.com' },
  carol: { password: 'carousel', groups: ['staff'], name: 'Carol Çelik', email: 'carol@example.com' },
};

const disabled = new Set();
let refreshes = 0;
// By way of PEM: exporting the very key that was made waits for itself for ever, one start in thirty (Node.js 20).
const key = createPrivateKey(generateKeyPairSync('rsa', {
  modulusLength: 2048,
  publicKeyEncoding: { type: 'spki', format: 'pem' },
  privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
}).privateKey).export({ format: 'jwk' });
const proof = clientKey
  ? { token_endpoint_auth_method: 'private_key_jwt', jwks: { keys: [JSON.parse(clientKey)] } }
  : { client_secret: 'a secret: with/odd+characters' };
const page = (title, body) => `<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>${title}</title>
<h1>${title}</h1>${body}</html>`;

const provider = new Provider(issuer, {
  jwks: { keys: [{ ...key, kid: randomUUID(), use: 'sig', alg: 'RS256' }] },
  cookies: { keys: [randomUUID()] },
  clients: [{
    client_id: 'relay',
    ...proof,
    grant_types: ['authorization_code', 'refresh_token'],
    redirect_uris: [`${relay}/.appproxy/callback`],
    post_logout_redirect_uris: [`${relay}/.appproxy/signed-out`],
    // Without these two the ID token has no "sid".
    backchannel_logout_uri: `${relay}/.appproxy/back-channel-logout`,
    backchannel_logout_session_required: true,
  }],
  // Else profile claims come from the user information endpoint only.
  conformIdTokenClaims: false,
  claims: {
    openid: ['sub', 'auth_time'],
    profile: ['name', 'preferred_username', 'groups'],
    email: ['email', 'email_verified'],
  },
  features: {
    devInteractions: { enabled: false },
    backchannelLogout: { enabled: true },
    rpInitiatedLogout: {
      enabled: true,
      logoutSource: (ctx, form) => {
        ctx.body = page('Sign out?', `${form}<button form="op.logoutForm" name="logout" value="yes">Sign out</button>`);
      },
    },
  },
  ttl: { AccessToken: Number(accessSeconds || 3600), RefreshToken: 86400, Grant: 86400, Session: 86400 },
  rotateRefreshToken: true,
  enabledJWA: { clientAuthSigningAlgValues: ['RS256', 'PS256', 'ES256'] },
  // The relay has a name that only browsers resolve, and a certificate of its own authority.
  fetch: (url, options) => new Promise((resolve, reject) => {
    const { hostname, port: at, pathname } = new URL(url);
    const asked = https.request({
      host: '127.0.0.1', port: at, path: pathname, method: options.method, servername: hostname,
      headers: { host: `${hostname}:${at}`, ...Object.fromEntries(new Headers(options.headers)) },
      ca: readFileSync(authority),
    }, (answer) => { answer.resume(); resolve(new Response(null, { status: answer.statusCode })); });
    asked.on('error', reject);
    asked.end(options.body?.toString());
  }),
  pkce: { required: () => true },
  interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
  findAccount: (_ctx, id) => (!users[id] || disabled.has(id) ? undefined : {
    accountId: id,
    claims: () => ({ sub: id, preferred_username: id, email_verified: true, ...users[id], password: undefined }),
  }),
  // Nobody is asked for consent: the relay is the organisation's own.
  loadExistingGrant: async (ctx) => {
    const { client, session } = ctx.oidc;
    const grant = new ctx.oidc.provider.Grant({ clientId: client.clientId, accountId: session.accountId });
    grant.addOIDCScope('openid profile email offline_access');
    await grant.save();
    return grant;
  },
});

async function form(request) {
  let text = '';
  for await (const piece of request) text += piece;
  return new URLSearchParams(text);
}

provider.use(async (ctx, next) => {
  if (ctx.method === 'POST' && ctx.path.startsWith('/test/disable/')) {
    disabled.add(ctx.path.split('/').pop());
    ctx.status = 204;
    return;
  }
  if (ctx.path === '/test/refreshes') {
    ctx.body = String(refreshes);
    return;
  }
  if (!ctx.path.startsWith('/interaction/')) return next();
  let failed = '';
  const { prompt } = await provider.interactionDetails(ctx.req, ctx.res);
  if (prompt.name === 'consent') {
    return provider.interactionFinished(ctx.req, ctx.res, { consent: {} }, { mergeWithLastSubmission: true });
  }
  if (ctx.method === 'POST') {
    const told = await form(ctx.req);
    const name = told.get('username');
    if (told.has('cancel')) {
      const refusal = { error: 'access_denied', error_description: '<script>alert(1)</script>' };
      return provider.interactionFinished(ctx.req, ctx.res, refusal, { mergeWithLastSubmission: false });
    }
    if (Object.hasOwn(users, name) && users[name].password === told.get('password')) {
      return provider.interactionFinished(ctx.req, ctx.res, { login: { accountId: name } });
    }
    failed = '<p role="alert">That name and password do not belong together.</p>';
  }
  ctx.body = page('Sign in', `${failed}<form method="post" action="${ctx.path}">
<label>Name <input id="username" name="username" autofocus></label>
<label>Password <input id="password" name="password" type="password"></label>
<button>Sign in</button> <button name="cancel" value="yes">Cancel</button></form>`);
});

provider.on('grant.success', (ctx) => { refreshes += ctx.oidc.params.grant_type === 'refresh_token'; });
provider.on('backchannel.error', (_ctx, error) => console.error(error));
provider.on('server_error', (_ctx, error) => console.error(error));
provider.listen(Number(port), '127.0.0.1', () => console.log(`provider at ${issuer}`));
