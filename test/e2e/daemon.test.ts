/** The daemon by itself: its local API, one per database, enrolment while it runs, and several HQ processes. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { copyFile, link, mkdir, mkdtemp, rm, stat } from 'node:fs/promises';
import http from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { WebSocket } from 'ws';
import { PossyncError } from '../../src/core/errors.ts';
import { CLOSE, ROUTES } from '../../src/protocol/http.ts';
import { startHq } from '../../src/hq/serve.ts';
import { tellServers } from '../../src/hq/stores/live.ts';
import { readCredential } from '../../src/store/credential.ts';
import { startDaemon } from '../../src/store/daemon.ts';
import { Outbox } from '../../src/store/outbox/outbox.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { memoryLog } from '../support/memory-log.ts';
import { addRegister, openSession, sell } from '../support/pos.ts';
import { storeDatabase } from '../support/postgres.ts';
import { runPossync } from '../support/process.ts';
import { until } from '../support/until.ts';

interface Got {
  readonly status: number;
  readonly json: unknown;
}

async function local(
  where: { readonly socketPath: string } | { readonly url: string },
  method: string,
  path: string,
): Promise<Got> {
  return await new Promise((resolve, reject) => {
    const answered = (response: http.IncomingMessage): void => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (text += chunk));
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, json: JSON.parse(text) });
      });
    };
    const request =
      'url' in where
        ? http.request(`${where.url}${path}`, { method, agent: false }, answered)
        : http.request({ socketPath: where.socketPath, method, path, agent: false }, answered);
    request.on('error', reject);
    request.end();
  });
}

describe('the daemon', function () {
  this.timeout(60_000);
  let hq: TestHq;

  before(async () => {
    hq = await TestHq.open('daemon');
  });
  after(async () => {
    await hq.close();
  });

  it('says that it has everything to pull again before it says that it runs, when other columns fill its tables', async () => {
    const own = await TestHq.open('daemon, other columns');
    const store = await TestStore.open(own, 'COLUMNS');
    try {
      const asked = async (): Promise<boolean> =>
        (await store.pool.query('select from possync.cursor c where c.nonce is null')).rowCount === 1;
      await until(async () => !(await asked()), {
        what: 'the first download is in place',
        timeoutMs: 30_000,
      });
      await store.stop();
      await own.stop(); // nothing can be pulled: the daemon alone decides
      await store.pool.query(`update possync.cursor c set shape = 'of another version'`);
      await store.start();
      assert.equal(await asked(), true);
    } finally {
      await store.close();
      await own.close();
    }
  });

  it('answers on its socket, which only its group may use: status, pull with a fresh head, push', async () => {
    const store = await TestStore.open(hq, 'API', {
      pushIntervalMs: 3_600_000,
      pullIntervalMs: 3_600_000,
      statusListen: { host: '127.0.0.1', port: 0 },
    });
    await store.untilLight('green');
    const socket = { socketPath: store.running.socketPath };
    assert.equal((await stat(store.running.socketPath)).mode & 0o777, 0o660);
    const status = (await local(socket, 'GET', '/api/v1/status')).json as {
      schema: string;
      exit_code: number;
      source: string;
      connection: { indicator: string };
    };
    assert.deepEqual(
      [status.schema, status.exit_code, status.source, status.connection.indicator],
      ['possync.status/1', 0, 'daemon', 'green'],
    );

    await hq.pool.query(`insert into public.roles (id, name) values (gen_random_uuid(), 'fresh')`);
    const pulled = await local(socket, 'POST', '/api/v1/pull?fresh=1');
    assert.equal(pulled.status, 200);
    assert.equal((await store.pool.query(`select from public.roles where name = 'fresh'`)).rowCount, 1);

    const till = await store.database.connect();
    await sell(till, await openSession(till, await addRegister(till, store.id), store.id), {
      storeId: store.id,
    });
    const pushed = await local(socket, 'POST', '/api/v1/push');
    assert.equal(pushed.status, 200);
    assert.equal((await hq.pool.query('select from public.sales')).rowCount, 1);

    const url = store.running.statusUrl ?? '';
    assert.equal((await local({ url }, 'GET', '/livez')).status, 200);
    assert.equal((await local({ url }, 'GET', '/readyz')).status, 200);
    assert.deepEqual((await local({ url }, 'GET', '/connz')).json, {
      status: 'pass',
      indicator: 'green',
      code: null,
    });
    assert.equal((await local({ url }, 'POST', '/api/v1/push')).status, 404, 'the port changes nothing');
    await store.close();
  });

  it('shows its light as a picture and as events, red and green as it changes, to this machine only', async () => {
    const store = await TestStore.open(hq, 'LIGHT', {
      statusListen: { host: '127.0.0.1', port: 0 },
      statusOrigin: 'http://manager.test',
    });
    await store.untilLight('green');
    const url = store.running.statusUrl ?? '';
    const picture = async (): Promise<string> => await (await fetch(`${url}/indicator.svg`)).text();
    assert.match(await picture(), /aria-label="HQ: connected"/);

    const seen: string[] = [];
    const request = http.get(`${url}/api/v1/events`, (response) => {
      assert.equal(response.headers['content-type'], 'text/event-stream');
      assert.equal(response.headers['access-control-allow-origin'], 'http://manager.test');
      response.setEncoding('utf8').on('data', (text: string) => {
        for (const [, light = ''] of text.matchAll(/"indicator":"(\w+)"/g))
          if (seen.at(-1) !== light) seen.push(light);
      });
      response.on('error', () => undefined);
    });
    request.on('error', () => undefined);
    await until(() => seen.at(-1) === 'green', { what: 'the light came at once' });
    await hq.stop();
    await until(() => seen.at(-1) === 'red', { what: 'red came as it changed' });
    assert.match(await picture(), /aria-label="HQ: disconnected"/);
    assert.equal((await local({ url }, 'GET', '/connz')).status, 503);
    assert.equal((await local({ url }, 'GET', '/readyz')).status, 200, 'ready without HQ');
    await hq.start();
    await until(() => seen.at(-1) === 'green', { what: 'green came back' });
    assert.deepEqual(seen, ['green', 'red', 'green']);
    request.destroy();

    // A page of the web whose name was made to lead here.
    const foreign = await new Promise<number>((resolve, reject) => {
      http
        .get(`${url}/api/v1/status`, { headers: { host: 'evil.example' } }, (response) => {
          response.resume();
          resolve(response.statusCode ?? 0);
        })
        .on('error', reject);
    });
    assert.equal(foreign, 421);
    await store.close();
  });

  it('that cannot reach its database on a dead line is red, whatever it wrote there before', async () => {
    const [database, lines] = [await storeDatabase('store_DARK'), [] as FaultProxy[]];
    const through = async (url: string): Promise<string> => {
      const { hostname: host, port } = new URL(url);
      const line = new FaultProxy({ host, port: Number(port) });
      await line.open();
      lines.push(line);
      return Object.assign(new URL(url), { hostname: '127.0.0.1', port: String(line.port) }).href;
    };
    const store = await TestStore.open(hq, 'DARK', {
      database,
      databaseUrl: await through(database.url),
      hqUrl: (await through(hq.running.url)).replace(/\/$/, ''),
    });
    await store.untilLight('green');
    for (const line of lines) await line.set('refuse');
    await until(() => store.log.lines.some(({ event }) => event === 'link.down'), {
      what: 'the link is down',
    });
    // The row stays as the daemon has left it, and must not become old while this test looks at it.
    await store.pool.query(
      `update possync.link set indicator = 'green', written_at = now() + interval '1 hour'`,
    );
    const { code, stdout } = await runPossync(['status', '--json'], {
      env: { DATABASE_URL: database.url, POSSYNC_STATE_DIR: store.stateDir },
    });
    const { connection } = JSON.parse(stdout) as {
      connection: { indicator: string; reason: { code: string } };
    };
    assert.deepEqual([code, connection.indicator], [1, 'red']);
    assert.notEqual(connection.reason.code, 'PS-DAEMON-DOWN');
    for (const line of lines) await line.set('pass');
    await store.close();
    for (const line of lines) await line.close();
  });

  it('that was killed is red at once: its socket is left, and nobody listens on it', async () => {
    const store = await TestStore.open(hq, 'KILLED');
    await store.untilLight('green');
    await store.stop();
    // As kill -9 leaves it: a light that says green, and a socket.
    await store.pool.query(
      `update possync.link set indicator = 'green', state = 'online', written_at = now() + interval '1 hour'`,
    );
    const status = async (): Promise<[number | null, string, string | undefined]> => {
      const { code, stdout } = await runPossync(['status', '--json'], {
        env: { DATABASE_URL: store.database.url, POSSYNC_STATE_DIR: store.stateDir },
      });
      const { connection } = JSON.parse(stdout) as {
        connection: { indicator: string; reason: { code: string } | null };
      };
      return [code, connection.indicator, connection.reason?.code];
    };
    assert.deepEqual(await status(), [0, 'green', undefined], 'without a socket the daemon may be elsewhere');
    const listener = createServer().listen(join(store.stateDir, 'short-lived.sock'));
    await once(listener, 'listening');
    await link(join(store.stateDir, 'short-lived.sock'), join(store.stateDir, 'store.sock'));
    listener.close();
    await once(listener, 'close');
    assert.deepEqual(await status(), [1, 'red', 'PS-DAEMON-DOWN']);
    await store.close();
  });

  it('a taken status port is a warning', async () => {
    const blocker = http.createServer();
    await new Promise<void>((resolve) => blocker.listen(0, '127.0.0.1', resolve));
    const address = blocker.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const store = await TestStore.open(hq, 'PORT', { statusListen: { host: '127.0.0.1', port } });
    assert.ok(store.log.lines.some((line) => line.level === 'warn' && line.message.includes('status port')));
    await store.untilLight('green');
    await store.close();
    await new Promise((resolve) => blocker.close(resolve));
  });

  it('a second daemon on the same database is refused', async () => {
    const store = await TestStore.open(hq, 'TWICE');
    await assert.rejects(
      startDaemon({
        databaseUrl: store.database.url,
        stateDir: store.stateDir,
        statusListen: null,
        log: memoryLog(),
      }),
      (error: unknown) =>
        error instanceof PossyncError && error.code === 'PS-DAEMON-TWICE' && error.exit === 75,
    );
    await store.untilLight('green');
    await store.close();
  });

  it('starts without an enrolment and takes up the credential as soon as it is there', async () => {
    const store = await TestStore.enrolled(hq, 'LATE');
    const hidden = await mkdtemp(join(tmpdir(), 'possync-late-'));
    const stateDir = join(hidden, 'state');
    await mkdir(stateDir, { mode: 0o700 });
    const log = memoryLog();
    const daemon = await startDaemon({
      databaseUrl: store.database.url,
      stateDir,
      statusListen: null,
      log,
    });
    await until(async () => (await store.link()).state === 'idle', {
      what: 'the daemon waits for a credential',
    });
    await copyFile(join(store.stateDir, 'credential'), join(stateDir, 'credential'));
    await store.untilLight('green');
    await daemon.stop();
    assert.equal((await store.link()).indicator, 'red', 'a stopped daemon leaves a red light behind');
    await rm(hidden, { recursive: true });
    await store.close();
  });

  it('refuses the credential of another store', async () => {
    const one = await TestStore.enrolled(hq, 'ONE');
    const two = await TestStore.enrolled(hq, 'TWO');
    await copyFile(join(two.stateDir, 'credential'), join(one.stateDir, 'credential'));
    await one.start();
    assert.ok(
      one.log.lines.some((line) => line.err instanceof PossyncError && line.err.code === 'PS-TOKEN-STORE'),
    );
    await until(async () => (await one.link()).code === 'PS-TOKEN-STORE', { what: 'the reason is shown' });
    assert.equal((await one.link()).state, 'idle');
    await one.close();
    await two.close();
  });

  it('another connection of the same daemon replaces the older one with 4409', async () => {
    const store = await TestStore.enrolled(hq, 'SAME');
    const credential = await readCredential(store.stateDir);
    assert.ok(credential);
    const hello = JSON.stringify({
      type: 'hello',
      v: 1,
      store: 'SAME',
      instance: { boot: 'b', daemon: randomUUID(), pgSysid: '1' },
      ...(await new Outbox(store.pool).helloPart()),
      in: { pos: 0, nonce: null, paged: 0 },
      bodyVersion: 1,
      software: 'test',
    });
    const open = async (): Promise<WebSocket> => {
      const ws = new WebSocket(`${hq.running.url.replace('http', 'ws')}${ROUTES.socket}`, {
        headers: { authorization: `Bearer ${credential.token.reveal()}` },
      });
      await new Promise((resolve, reject) => {
        ws.once('error', reject);
        ws.on('message', (data: Buffer) => {
          if (data.toString().includes('"welcome"')) resolve(undefined);
        });
        ws.once('open', () => {
          ws.send(hello);
        });
      });
      return ws;
    };
    const first = await open();
    const closed = new Promise<number>((resolve) => first.once('close', resolve));
    const second = await open();
    assert.equal(await closed, CLOSE.replaced);
    const bad = new Promise<number>((resolve) => second.once('close', resolve));
    second.send('{"type":"nonsense"}');
    assert.equal(await bad, CLOSE.badFrame);
    await store.close();
  });

  it('two HQ processes: hints, questions and revocations reach a store wherever it is connected', async () => {
    const other = await startHq({ databaseUrl: hq.database.url, port: 0, log: memoryLog() });
    const here = await TestStore.open(hq, 'HERE', { pullIntervalMs: 3_600_000 });
    const there = await TestStore.open(hq, 'THERE', { hqUrl: other.url, pullIntervalMs: 3_600_000 });
    await here.untilLight('green');
    await there.untilLight('green');
    await hq.pool.query(`insert into public.tax_rates (id, code, name, rate_bp)
                         values (gen_random_uuid(), 'T1', 'urgent', 825)`);
    for (const store of [here, there])
      await until(async () => (await store.count('tax_rates')) === 1, { what: `${store.code} was told` });

    const id = randomUUID();
    await tellServers(hq.pool, { type: 'ask', store: null, id });
    for (const store of [here, there])
      await until(
        async () =>
          (
            await hq.pool.query(
              `select from possync.live_links where store_id = $1::integer and stat #>> '{id}' = $2::text`,
              [store.id, id],
            )
          ).rowCount === 1,
        { what: `${store.code} answered the question` },
      );

    await hq.pool.query(
      `update possync.tokens set state = 'revoked', ended_at = now() where store_id = $1::integer and kind = 'credential'`,
      [there.id],
    );
    await until(async () => (await there.link()).code === 'PS-TOKEN-REVOKED', { what: 'the link was cut' });
    await here.close();
    await there.close();
    await other.stop();
  });
});
