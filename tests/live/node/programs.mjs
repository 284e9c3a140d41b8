// A certified OpenID provider on loopback, over TLS and below a path, that gives programs access tokens for an API.
// node programs.mjs PORT RELAY-ORIGIN RESOURCE CERTIFICATE-AND-KEY: knows the relay, the public client "desktop", which
// gets tokens by code, device code and refresh token, and the programs "daemon" (with a role) and "intern" (without).
// A token says the authentication contexts ("acrs") that its request asked for as claims, as Microsoft Entra's do.
import { createPrivateKey, generateKeyPairSync, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import https from 'node:https';
import Provider from 'oidc-provider';

const [port, relay, resource, file] = process.argv.slice(2);
const prefix = '/tenant';
const issuer = `https://localhost:${port}${prefix}`;
const users = {
  alice: { password: 'wonderland', groups: ['staff'] },
  mallory: { password: 'malice', groups: ['visitors'] },
};
const roles = { daemon: ['Jobs.Run'], intern: [] };
const own = { grant_types: ['client_credentials'], redirect_uris: [], response_types: [] };
// By way of PEM: exporting the very key that was made waits for itself for ever, one start in thirty (Node.js 20).
const key = createPrivateKey(generateKeyPairSync('rsa', {
  modulusLength: 2048,
  publicKeyEncoding: { type: 'spki', format: 'pem' },
  privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
}).privateKey).export({ format: 'jwk' });

function wanted(ctx) {
  try {
    return JSON.parse(ctx.oidc.body.claims).access_token ?? {};
  } catch {
    return {};
  }
}

const provider = new Provider(issuer, {
  jwks: { keys: [{ ...key, kid: randomUUID(), use: 'sig', alg: 'RS256' }] },
  cookies: { keys: [randomUUID()] },
  clients: [
    { client_id: 'relay', client_secret: 'a secret', redirect_uris: [`${relay}/.appproxy/callback`] },
    {
      client_id: 'desktop',
      application_type: 'native',
      token_endpoint_auth_method: 'none',
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
      redirect_uris: ['http://localhost/desktop'],
    },
    { client_id: 'daemon', client_secret: 'machine', ...own },
    { client_id: 'intern', client_secret: 'trainee', ...own },
  ],
  conformIdTokenClaims: false,
  claims: { openid: ['sub', 'auth_time'], profile: ['preferred_username', 'groups'] },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    deviceFlow: {
      enabled: true,
      userCodeInputSource: (ctx, form) => { ctx.body = `${form}<button form="op.deviceInputForm">Next</button>`; },
      userCodeConfirmSource: (ctx, form) => { ctx.body = `${form}<button form="op.deviceConfirmForm">Yes</button>`; },
      successSource: (ctx) => { ctx.body = 'signed in'; },
    },
    resourceIndicators: {
      enabled: true,
      defaultResource: (_ctx, client) => (client?.clientId === 'relay' ? undefined : resource),
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: 'user_impersonation read', audience: resource, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
  extraTokenClaims: (ctx, token) => {
    if (token.kind === 'ClientCredentials') return { roles: roles[token.clientId] };
    if (token.kind !== 'AccessToken') return undefined;
    const { xms_cc: capabilities, acrs } = wanted(ctx);
    return {
      preferred_username: token.accountId,
      groups: users[token.accountId].groups,
      ...(capabilities && { xms_cc: capabilities.values }),
      ...(acrs && { acrs: [acrs.value] }),
    };
  },
  issueRefreshToken: (_ctx, client) => client.grantTypeAllowed('refresh_token'),
  pkce: { required: () => false },
  interactions: { url: (_ctx, interaction) => `${prefix}/interaction/${interaction.uid}` },
  findAccount: (_ctx, id) => (users[id] ? {
    accountId: id, claims: () => ({ sub: id, preferred_username: id, groups: users[id].groups }),
  } : undefined),
  loadExistingGrant: async (ctx) => {
    const { client, session } = ctx.oidc;
    const grant = new ctx.oidc.provider.Grant({ clientId: client.clientId, accountId: session.accountId });
    grant.addOIDCScope('openid profile offline_access');
    grant.addResourceScope(resource, 'user_impersonation read');
    await grant.save();
    return grant;
  },
});

provider.use(async (ctx, next) => {
  if (!ctx.path.startsWith('/interaction/')) return next();
  const { prompt } = await provider.interactionDetails(ctx.req, ctx.res);
  if (prompt.name === 'consent') {
    return provider.interactionFinished(ctx.req, ctx.res, { consent: {} }, { mergeWithLastSubmission: true });
  }
  if (ctx.method === 'POST') {
    let text = '';
    for await (const piece of ctx.req) text += piece;
    const told = new URLSearchParams(text);
    if (users[told.get('username')]?.password === told.get('password')) {
      return provider.interactionFinished(ctx.req, ctx.res, { login: { accountId: told.get('username') } });
    }
  }
  ctx.body = `<form method="post" action="${prefix}${ctx.path}"><input name="username"><input name="password"></form>`;
});

provider.on('server_error', (_ctx, error) => console.error(error));
provider.on('grant.error', (_ctx, error) => console.error(error));
const answer = provider.callback();
https.createServer({ cert: readFileSync(file), key: readFileSync(file) }, (request, response) => {
  request.originalUrl = request.url;
  request.url = request.url.startsWith(prefix) ? request.url.slice(prefix.length) || '/' : '/nowhere';
  answer(request, response);
}).listen(Number(port), '127.0.0.1', () => console.log(`provider at ${issuer}`));
