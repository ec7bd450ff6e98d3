/** A store whose only way out is an HTTP proxy: HTTP, WebSocket and `possync diagnose` go the same way, and its password stays unsaid. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PossyncError } from '../../src/core/errors.ts';
import { addStore } from '../../src/hq/stores/stores.ts';
import { issueEnrolmentToken } from '../../src/hq/stores/tokens.ts';
import { HqClient } from '../../src/store/link/hq-client.ts';
import { Authority } from '../support/certificates.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { ConnectProxy } from '../support/connect-proxy.ts';
import { addRegister, openSession, sell } from '../support/pos.ts';
import { storeDatabase } from '../support/postgres.ts';
import { runPossync, startPossync, type Ended, type TestProcess } from '../support/process.ts';
import { until } from '../support/until.ts';

/** No machine can look it up: who gets there has asked the proxy. */
const NAME = 'hq.example.test';
const NO_OTHER = Object.fromEntries(
  ['http_proxy', 'https_proxy', 'all_proxy', 'no_proxy'].flatMap((name) => [
    [name, ''],
    [name.toUpperCase(), ''],
  ]),
);

interface Report {
  readonly ran: string;
  readonly verdict: { readonly code: string | null };
  readonly checks: readonly { readonly id: string; readonly status: string; readonly message: string }[];
}

describe('a store behind a proxy', function () {
  this.timeout(120_000);
  const password = `p%${randomBytes(12).toString('hex')}`;
  let authority: Authority;
  let hq: TestHq;
  let proxy: ConnectProxy;
  let store: TestStore;
  let daemon: TestProcess;
  const said: Ended[] = [];

  before(async () => {
    authority = await Authority.make();
    hq = await TestHq.open('proxy', { tls: await authority.issue({ name: NAME }), host: '127.0.0.1' });
    proxy = new ConnectProxy();
    proxy.login = `till:${password}`;
    await proxy.open();
    store = await TestStore.enrolled(hq, 'PROXY-1', { caFile: authority.caFile });
  });
  afterEach(async () => {
    proxy.refuses = undefined;
    if (daemon.running) said.push(await daemon.stop());
  });
  after(async () => {
    await store.close();
    await hq.close();
    await proxy.close();
    await authority.remove();
  });

  const hqUrl = (): string => `https://${NAME}:${hq.port}`;
  const proxyUrl = (secret = password): string =>
    `http://till:${encodeURIComponent(secret)}@127.0.0.1:${proxy.port}`;
  const environment = (proxies: Record<string, string>): Record<string, string> => ({
    ...NO_OTHER,
    DATABASE_URL: store.database.url,
    POSSYNC_STATE_DIR: store.stateDir,
    LOG_DIR: join(store.stateDir, 'log'),
    LOG_LEVEL: 'debug',
    POSSYNC_STATUS_LISTEN: 'off',
    POSSYNC_METRICS_LISTEN: 'off',
    SYNC_HQ_URL: hqUrl(),
    SYNC_PUSH_INTERVAL: '1s',
    ...proxies,
  });
  const start = async (env: Record<string, string>): Promise<void> => {
    daemon = await startPossync(['store', 'daemon'], { env });
    await daemon.line(/"event":"ready"/, 60_000);
  };
  const run = async (args: readonly string[], env: Record<string, string>): Promise<Ended> => {
    const ended = await runPossync(args, { env });
    said.push(ended);
    return ended;
  };
  const look = async (env: Record<string, string>): Promise<Report> =>
    JSON.parse((await run(['diagnose', '--json'], env)).stdout) as Report;
  /** The code that the daemon gives for its red light. */
  const whyRed = async (env: Record<string, string>, wanted: RegExp): Promise<string> =>
    await until(
      async () => {
        const { stdout } = await run(['status', '--json'], env);
        return wanted.exec(stdout)?.[0];
      },
      { what: `the status says ${wanted}`, timeoutMs: 60_000, everyMs: 500 },
    );

  for (const variable of ['HTTPS_PROXY', 'POSSYNC_PROXY'])
    it(`is green by ${variable}, sells, and diagnose goes the same way`, async () => {
      const env = environment({ [variable]: proxyUrl() });
      proxy.asked.length = 0;
      await start(env);
      await store.untilLight('green');
      const till = await store.database.connect();
      const sale = await sell(till, await openSession(till, await addRegister(till, store.id), store.id), {
        storeId: store.id,
      });
      await until(
        async () =>
          (await hq.pool.query('select from public.sales where id = $1::uuid', [sale])).rowCount === 1,
        { what: 'the sale is at HQ', timeoutMs: 60_000 },
      );
      assert.ok(proxy.asked.length >= 2, 'the WebSocket and HTTP have connections of their own');
      const before = proxy.asked.length;
      const { ran, checks } = await look(env);
      assert.equal(ran, 'daemon');
      assert.ok(proxy.asked.length > before);
      const messages = Object.fromEntries(
        checks.map(({ id, status, message }) => [id, `${status} ${message}`]),
      );
      assert.equal(messages['proxy.connect'], `pass through 127.0.0.1:${proxy.port}`);
      assert.equal(messages['host.proxyenv'], `pass the proxy of ${variable} is used`);
      assert.match(messages['ws.upgrade'] ?? '', /^pass/);
      assert.deepEqual([...new Set(proxy.asked)], [`${NAME}:${hq.port}`]);
    });

  it('rotates its credential, and enrols, through the proxy', async () => {
    const env = environment({ HTTPS_PROXY: proxyUrl() });
    await start(env);
    await store.untilLight('green');
    proxy.asked.length = 0;
    const { code, stderr } = await run(['token', 'rotate'], env);
    assert.equal(code, 0, stderr);
    assert.ok(proxy.asked.length > 0);
    await addStore(hq.pool, { code: 'PROXY-2', name: 'Proxy 2', timeZone: 'UTC' }, 'test');
    const { token } = await issueEnrolmentToken(hq.pool, {
      code: 'PROXY-2',
      hqUrl: hqUrl(),
      actor: 'test',
    });
    const database = await storeDatabase('proxy 2');
    const second = { DATABASE_URL: database.url, POSSYNC_STATE_DIR: join(store.stateDir, 'second') };
    const enrolled = await runPossync(['store', 'init', '--token-file', '-'], {
      env: { ...env, SYNC_HQ_URL: '', SYNC_TLS_CA_FILE: authority.caFile, ...second },
      input: token.reveal(),
    });
    assert.equal(enrolled.code, 0, enrolled.stderr);
    assert.deepEqual([...new Set(proxy.asked)], [`${NAME}:${hq.port}`]);
    await database.drop();
  });

  it('checks the certificate of HQ behind the proxy like any other', async () => {
    const codeAt = async (name: string, caFile?: string): Promise<string> => {
      const client = new HqClient({
        url: `https://${name}:${hq.port}`,
        software: 'test',
        proxies: { explicit: proxyUrl(), env: {} },
        ...(caFile === undefined ? {} : { caFile }),
      });
      try {
        await client.whoami();
        return 'nothing was thrown';
      } catch (error) {
        return error instanceof PossyncError ? error.code : String(error);
      } finally {
        client.close();
      }
    };
    assert.equal(await codeAt(NAME), 'PS-TLS-UNTRUSTED');
    assert.equal(await codeAt('other.example.test', authority.caFile), 'PS-TLS-HOSTNAME');
    assert.match(await codeAt(NAME, authority.caFile), /^PS-TOKEN-/);
  });

  it('goes past the proxy where NO_PROXY names HQ, and diagnose says so', async () => {
    const env = environment({ HTTPS_PROXY: proxyUrl(), NO_PROXY: '.example.test' });
    proxy.asked.length = 0;
    await start(env);
    await whyRed(env, /PS-(DNS|TCP)-\w+/); // nobody knows the name here
    const { checks } = await look(env);
    assert.equal(
      checks.find(({ id }) => id === 'host.proxyenv')?.message,
      'HTTPS_PROXY does not apply to HQ',
    );
    assert.deepEqual(proxy.asked, []);
  });

  const refusals: readonly (readonly [
    what: string,
    refuses: number | 'silent' | 'password',
    code: string,
  ])[] = [
    ['a wrong password', 'password', 'PS-PROXY-AUTH'],
    ['403', 403, 'PS-PROXY-DENIED'],
    ['502', 502, 'PS-PROXY-UPSTREAM'],
    ['405', 405, 'PS-PROXY-NOCONNECT'],
    ['silence', 'silent', 'PS-PROXY-DOWN'],
  ];
  for (const [what, refuses, code] of refusals)
    it(`${what} of the proxy is ${code}, to the daemon as to diagnose`, async () => {
      if (refuses !== 'password') proxy.refuses = refuses;
      const env = environment({ HTTPS_PROXY: proxyUrl(refuses === 'password' ? `${password}x` : password) });
      await start(env);
      assert.equal(await whyRed(env, /PS-PROXY-\w+/), code);
      assert.equal((await look(env)).verdict.code, code);
    });

  it('leads without TLS as well, by HTTP_PROXY', async () => {
    const plain = await TestHq.open('proxy plain');
    const client = new HqClient({
      url: `http://${NAME}:${plain.port}`,
      software: 'test',
      proxies: { explicit: undefined, env: { HTTP_PROXY: proxyUrl() } },
    });
    proxy.asked.length = 0;
    for (let count = 0; count < 2; count += 1)
      await assert.rejects(
        client.whoami(),
        (error: unknown) => error instanceof PossyncError && error.code.startsWith('PS-TOKEN-'),
      );
    client.close();
    assert.deepEqual(proxy.asked, [`${NAME}:${plain.port}`], 'the connection is kept for the next request');
    await plain.close();
  });

  it('says the password of its proxy nowhere', async () => {
    const env = environment({ POSSYNC_PROXY: proxyUrl(), HTTPS_PROXY: proxyUrl() });
    await start(env);
    await store.untilLight('green');
    for (const args of [
      ['config', 'show'],
      ['config', 'show', '--json'],
      ['status', '--json', '--verbose'],
    ])
      await run(args, env);
    await run(['config', 'show'], { ...env, POSSYNC_PROXY: `ftp://till:${password}@127.0.0.1` });
    said.push(await daemon.stop());
    const texts = said.map(({ stdout, stderr }) => stdout + stderr);
    const logs = join(store.stateDir, 'log');
    for (const name of readdirSync(logs)) texts.push(readFileSync(join(logs, name), 'utf8'));
    const all = texts.join('\n');
    assert.match(all, new RegExp(`"proxy":"127\\.0\\.0\\.1:${proxy.port}"`), 'its address is said');
    const login = Buffer.from(`till:${password}`).toString('base64');
    for (const secret of [password, encodeURIComponent(password), login])
      assert.ok(
        !all.includes(secret),
        all.slice(Math.max(0, all.indexOf(secret) - 300), all.indexOf(secret)),
      );
  });
});
