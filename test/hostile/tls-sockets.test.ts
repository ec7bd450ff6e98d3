/**
 * Many sockets over TLS while the certificate is replaced: not one is dropped, and new ones get the new certificate.
 * POSSYNC_TEST_SOCKETS=500 for the number of a chain.
 */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import type pg from 'pg';
import { WebSocket } from 'ws';
import { createPool } from '../../src/db/pool.ts';
import { ROUTES } from '../../src/protocol/http.ts';
import { addStore } from '../../src/hq/stores/stores.ts';
import { issueEnrolmentToken } from '../../src/hq/stores/tokens.ts';
import { enrol } from '../../src/hq/stores/enrol.ts';
import { formatCredential, hashSecret, newKid, newSecret } from '../../src/core/secret.ts';
import { Authority, type ServerCertificate } from '../support/certificates.ts';
import { hqDatabase, type TestDatabase } from '../support/postgres.ts';
import { startPossync, type TestProcess } from '../support/process.ts';
import { until } from '../support/until.ts';
import { helloMessage, INSTANCE } from './support/messages.ts';

const SOCKETS = Number(process.env.POSSYNC_TEST_SOCKETS ?? 50);

describe(`${SOCKETS} sockets while the certificate is replaced`, function () {
  this.timeout(120_000 + SOCKETS * 500);
  let dir: string;
  let authority: Authority;
  let database: TestDatabase;
  let pool: pg.Pool;
  let hq: TestProcess;
  let url: string;

  /** Certificate and key as certbot keeps them: links in the folder that HQ was told of, the files in another one. */
  const links = (): ServerCertificate => ({
    certFile: join(dir, 'cert.pem'),
    keyFile: join(dir, 'key.pem'),
  });
  const point = async ({ certFile, keyFile }: ServerCertificate): Promise<void> => {
    for (const [target, link] of [
      [keyFile, links().keyFile],
      [certFile, links().certFile],
    ] as const) {
      await symlink(target, `${link}.new`);
      await rename(`${link}.new`, link);
    }
  };

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'possync-sockets-'));
    authority = await Authority.make();
    await point(await authority.issue({ subject: 'first' }));
    database = await hqDatabase('sockets');
    pool = createPool({ url: database.url, applicationName: 'possync test', max: 4 });
    hq = await startPossync(['hq', 'serve', '--port', '0', '--host', '127.0.0.1'], {
      cwd: dir,
      env: {
        DATABASE_URL: database.url,
        LOG_DIR: join(dir, 'log'),
        LOG_LEVEL: 'debug',
        SYNC_TLS_CERT_FILE: links().certFile,
        SYNC_TLS_KEY_FILE: links().keyFile,
      },
    });
    ({ url } = JSON.parse(await hq.line(/"event":"ready"/, 60_000)) as { url: string });
  });
  after(async () => {
    await hq.stop();
    await pool.end();
    await database.drop();
    await authority.remove();
    await rm(dir, { recursive: true, force: true });
  });

  const subject = async (): Promise<string | undefined> =>
    await new Promise((resolve, reject) => {
      const { port } = new URL(url);
      const socket = connect({ host: '127.0.0.1', port: Number(port), rejectUnauthorized: false }, () => {
        const { CN } = socket.getPeerCertificate().subject;
        resolve(Array.isArray(CN) ? CN[0] : CN);
        socket.end();
      });
      socket.on('error', reject);
    });
  const connected = async (): Promise<number> => {
    const { rows } = await pool.query<{ count: number }>(
      'select count(*)::integer as count from possync.live_links where connected',
    );
    return rows[0]?.count ?? 0;
  };

  it('drops none, by file and by signal, and each answers afterwards', async () => {
    const ca = await readFile(authority.caFile);
    let closed = 0;
    let pongs = 0;
    const sockets: WebSocket[] = [];
    for (let index = 0; index < SOCKETS; index += 1) {
      const code = `TLS-${index}`;
      await addStore(pool, { code, name: code, timeZone: 'UTC' }, 'test');
      const { token } = await issueEnrolmentToken(pool, { code, hqUrl: url, actor: 'test' });
      const kid = newKid();
      const secret = newSecret(kid);
      await enrol(pool, {
        token: token.reveal(),
        kid,
        hash: hashSecret(secret).toString('hex'),
        instance: INSTANCE,
        software: 'test',
        replace: false,
      });
      const ws = new WebSocket(`${url.replace('http', 'ws')}${ROUTES.socket}`, {
        ca,
        headers: { authorization: `Bearer ${formatCredential({ kid, secret }).reveal()}` },
        perMessageDeflate: false,
      });
      ws.on('error', () => undefined);
      ws.on('close', () => (closed += 1));
      ws.on('open', () => {
        ws.send(JSON.stringify(helloMessage(code)));
      });
      ws.on('message', (data: Buffer) => {
        const { type, n } = JSON.parse(data.toString()) as { type: string; n: number };
        if (type === 'ping') ws.send(JSON.stringify({ type: 'pong', n }));
        if (type === 'pong') pongs += 1;
      });
      sockets.push(ws);
    }
    await until(async () => (await connected()) === SOCKETS, {
      what: 'all are connected and welcomed',
      timeoutMs: 60_000 + SOCKETS * 200,
    });
    assert.equal(await subject(), 'first');
    const second = await authority.issue({ subject: 'second' });
    await point(second);
    await until(async () => (await subject()) === 'second', { what: 'the changed files are in use' });
    // Behind the links, where nobody watches: only the signal tells of it.
    await authority.issue({ subject: 'third', into: second });
    process.kill(hq.pid, 'SIGHUP');
    await until(async () => (await subject()) === 'third', { what: 'the files are read again at SIGHUP' });
    for (const ws of sockets) ws.send(JSON.stringify({ type: 'ping', n: 7 }));
    await until(() => pongs === SOCKETS, { what: 'every socket answers', timeoutMs: 60_000 });
    assert.equal(closed, 0);
    assert.equal(await connected(), SOCKETS);
    // Another file in the watched folder: looked at, and nothing to tell of.
    const logged = (): Promise<string> => readFile(join(dir, 'log', 'hq-server.log'), 'utf8');
    const looks = async (): Promise<number> => (await logged()).split('are as they were').length - 1;
    const before = await looks();
    await writeFile(join(dir, 'beside'), 'x');
    await until(async () => (await looks()) > before, { what: 'HQ has looked at the files' });
    assert.equal((await logged()).split('"certificate read"').length - 1, 2, 'each new pair is one line');
    console.log(`      ${SOCKETS} sockets, certificate replaced twice: ${closed} dropped`);
    for (const ws of sockets) ws.terminate();
  });
});
