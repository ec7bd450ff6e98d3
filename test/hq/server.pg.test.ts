/** HQ's port: who may listen, what every answer carries, and how bodies are bounded. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import http from 'node:http';
import { brotliCompressSync, gunzipSync, gzipSync, brotliDecompressSync } from 'node:zlib';
import type pg from 'pg';
import { PossyncError } from '../../src/core/errors.ts';
import { silentLog } from '../../src/core/log.ts';
import { Gate } from '../../src/hq/gate.ts';
import { startHq } from '../../src/hq/serve.ts';
import { HQ_HEADER } from '../../src/protocol/http.ts';
import { errorBodySchema } from '../../src/protocol/messages.ts';
import { BODY_VERSION, PROTOCOL_VERSION } from '../../src/protocol/version.ts';
import { readCredential } from '../../src/store/credential.ts';
import { TestHq, TestStore } from '../support/chain.ts';

interface Got {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
}

async function ask(url: string, options: http.RequestOptions = {}, body?: Buffer | string): Promise<Got> {
  return await new Promise((resolve, reject) => {
    const request = http.request(url, { agent: false, ...options }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) });
      });
    });
    request.on('error', reject);
    request.end(body);
  });
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    assert.ok(error instanceof PossyncError, String(error));
    return error.code;
  }
  return 'nothing was thrown';
}

describe("HQ's port", () => {
  let hq: TestHq;
  let store: TestStore;
  let bearer: string;
  let pool: pg.Pool;

  before(async () => {
    hq = await TestHq.open('server');
    pool = hq.pool;
    store = await TestStore.enrolled(hq, 'P-1');
    bearer = `Bearer ${(await readCredential(store.stateDir))?.token.reveal() ?? ''}`;
  });
  after(async () => {
    await store.close();
    await hq.close();
  });
  const at = (path: string): string => `${hq.running.url}${path}`;

  it('refuses to serve plain HTTP beyond loopback', async () => {
    const start = (host: string) => startHq({ databaseUrl: hq.database.url, host, port: 0, log: silentLog });
    assert.equal(await codeOf(start('0.0.0.0')), 'PS-CFG-PLAINTEXT');
    assert.equal(await codeOf(start('::')), 'PS-CFG-PLAINTEXT');
  });

  it('says that the port is taken, with exit status 78', async () => {
    const second = startHq({ databaseUrl: hq.database.url, port: hq.port, log: silentLog });
    await assert.rejects(second, (error: unknown) => {
      assert.ok(error instanceof PossyncError);
      assert.deepEqual([error.code, error.exit], ['PS-LISTEN', 78]);
      return true;
    });
  });

  it('puts its identity on every answer, refusals included', async () => {
    const { rows } = await pool.query<{ id: string }>('select id::text from possync.identity');
    for (const path of ['/ping', '/livez', '/readyz', '/nothing', '/api/v1/whoami', '/api/v1/sync/ws'])
      assert.equal((await ask(at(path))).headers[HQ_HEADER], rows[0]?.id, path);
  });

  it('answers a request without its upgrade with 426 and what it saw', async () => {
    const { status, body } = await ask(at('/api/v1/sync/ws'), { headers: { via: '1.1 squid' } });
    assert.equal(status, 426);
    const { error, saw } = JSON.parse(body.toString()) as {
      error: { code: string };
      saw: { upgrade: boolean; via: string };
    };
    assert.deepEqual([error.code, saw.upgrade, saw.via], ['PS-WS-NO-UPGRADE', false, '1.1 squid']);
  });

  it('refuses without credential, with a damaged and with an unknown one, each by its code', async () => {
    const code = async (authorization?: string): Promise<string> => {
      const { status, body } = await ask(at('/api/v1/sync/pull?from=0'), {
        headers: authorization === undefined ? {} : { authorization },
      });
      assert.equal(status, 401);
      return errorBodySchema.parse(JSON.parse(body.toString())).error.code;
    };
    assert.equal(await code(), 'PS-TOKEN-UNKNOWN');
    assert.equal(await code('Bearer pst_broken'), 'PS-TOKEN-GARBLED');
    assert.match(await code(`${bearer.slice(0, -6)}AAAAAA`), /PS-TOKEN-(GARBLED|UNKNOWN)/);
  });

  it('never shows a credential to the one who asks what arrived', async () => {
    const { body } = await ask(at('/api/v1/diag/ping'), {
      headers: { authorization: bearer, 'x-seen': '1' },
    });
    assert.ok(!body.toString().includes(bearer.slice(20, 40)));
    assert.ok(body.toString().includes('x-seen'));
  });

  it('stops a body that unpacks to more than its limit, and one that is too long on the wire', async () => {
    const bomb = brotliCompressSync(Buffer.alloc(50_000_000));
    const post = (body: Buffer | string, headers: http.OutgoingHttpHeaders) =>
      ask(at('/api/v1/sync/hello'), { method: 'POST', headers: { authorization: bearer, ...headers } }, body);
    const { status } = await post(bomb, { 'content-encoding': 'br' });
    assert.equal(status, 413);
    assert.equal(
      (await post(gzipSync(Buffer.alloc(50_000_000)), { 'content-encoding': 'gzip' })).status,
      413,
    );
    assert.equal((await post(gzipSync('{'), { 'content-encoding': 'gzip' })).status, 400);
    assert.equal((await post('{}', { 'content-encoding': 'zstd' })).status, 400);
    assert.equal((await post('{}', {})).status, 400);
    const long = await post(Buffer.alloc(100_000, 0x20), {}).catch((error: unknown) => error);
    // HQ stops reading: the client sees the refusal, or its connection cut in the middle of the body.
    if (!(long instanceof Error)) assert.equal((long as Got).status, 413);
  });

  it('packs a page with brotli or gzip as the client takes it, and leaves a small one alone', async () => {
    await pool.query(
      `insert into public.roles (id, name) select gen_random_uuid(), 'role ' || n from generate_series(1, 200) n`,
    );
    const page = (encoding: string) =>
      ask(at('/api/v1/sync/pull?from=0&fresh=1'), {
        headers: { authorization: bearer, 'accept-encoding': encoding },
      });
    const plain = await page('identity');
    assert.equal(plain.headers['content-encoding'], undefined);
    const brotli = await page('gzip, br');
    assert.equal(brotli.headers['content-encoding'], 'br');
    assert.deepEqual(brotliDecompressSync(brotli.body), plain.body);
    const gzip = await page('gzip');
    assert.equal(gzip.headers['content-encoding'], 'gzip');
    assert.deepEqual(gunzipSync(gzip.body), plain.body);
    assert.ok(brotli.body.length * 3 < plain.body.length);
  });

  it('refuses a store that speaks a newer protocol before any data, and says which it serves', async () => {
    const hello = {
      type: 'hello',
      v: PROTOCOL_VERSION + 1,
      store: 'P-1',
      epoch: 1,
      instance: { boot: 'b', daemon: randomUUID(), pgSysid: '1' },
      out: { seq: 0, oldest: 1, acked: 0, chain: '' },
      in: { pos: 0, nonce: null, paged: 0 },
      bodyVersion: BODY_VERSION,
      software: 'possync from tomorrow',
      epochs: [],
    };
    const { status, body } = await ask(
      at('/api/v1/sync/hello'),
      { method: 'POST', headers: { authorization: bearer } },
      JSON.stringify(hello),
    );
    assert.equal(status, 200);
    const { type, code, detail } = JSON.parse(body.toString()) as Record<string, string>;
    assert.deepEqual([type, code], ['refuse', 'upgrade']);
    assert.match(detail ?? '', /HQ speaks protocol/);
  });

  it('says by /readyz that its database is there', async () => {
    const ready = await ask(at('/readyz?verbose'));
    assert.deepEqual([ready.status, ready.body.toString()], [200, '[+]database ok\n']);
  });

  it('lets of one store only its share in: the rest of the room is for the others', async () => {
    const gate = new Gate(5, () => 0, 2);
    let open: () => void = () => undefined;
    const hold = new Promise<void>((resolve) => {
      open = resolve;
    });
    const inside = [gate.run(() => hold, 1), gate.run(() => hold, 1)];
    assert.equal(await codeOf(gate.run(() => hold, 1)), 'PS-HQ-BUSY');
    inside.push(gate.run(() => hold, 2));
    assert.equal(gate.inside, 3);
    open();
    await Promise.all(inside);
    await gate.run(() => Promise.resolve(), 1);
  });

  it('lets a bounded number in and tells the others when to return', async () => {
    const gate = new Gate(2, () => 0.5);
    let open: () => void = () => undefined;
    const hold = new Promise<void>((resolve) => {
      open = resolve;
    });
    const inside = [gate.run(() => hold), gate.run(() => hold)];
    await assert.rejects(
      gate.run(() => hold),
      (error: unknown) => {
        assert.ok(error instanceof PossyncError);
        assert.deepEqual([error.code, error.details.retryMs], ['PS-HQ-BUSY', 3_000]);
        return true;
      },
    );
    open();
    await Promise.all(inside);
    assert.equal(gate.inside, 0);
  });
});
